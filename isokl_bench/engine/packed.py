"""Texts with branches in one row: a context, and behind it several continuations that each see a part of it and
themselves. Which token sees which is told by a mask per token (a tree, as in speculative decoding)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Branch = tuple[int, Sequence[int]]  # how many tokens of the context it sees, and its own


@dataclass(frozen=True)
class Packed:
    """Rows to be fed, contexts padded on the left, every branch in a slot as wide as its widest.

    ids, position: [b, s]. key: [b, cached + s], the positions of what can be seen, −1 for padding. sees:
    [b, s, cached + s]. ends: [slots], the last column of each slot.
    """

    ids: Tensor
    position: Tensor
    key: Tensor
    sees: Tensor
    ends: Tensor


def pack(contexts: Sequence[Sequence[int]], branches: Sequence[Sequence[Branch]], cached: Tensor) -> Packed:
    """Branch j of every row comes in slot j; rows may have fewer branches than others.

    cached: [b, columns], which position of its context each column of a cache holds, −1 for none; what it holds of a
    context, from its start, is not fed again."""
    known = cached.amax(-1).add(1).tolist() if cached.shape[1] else [0] * len(contexts)
    tails = [context[start:] for context, start in zip(contexts, known, strict=True)]
    slots = max(map(len, branches))
    widths = [max(len(row[j][1]) for row in branches if j < len(row)) for j in range(slots)]
    begin = max(map(len, tails))
    ends = begin - 1 + torch.tensor(widths).cumsum(0)
    shape = (len(contexts), begin + sum(widths))
    ids, limit = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
    position = torch.full(shape, -1)
    for i, (tail, start, row) in enumerate(zip(tails, known, branches, strict=True)):
        own = slice(begin - len(tail), begin)
        ids[i, own], position[i, own] = torch.tensor(tail), start + torch.arange(len(tail))
        limit[i, own] = position[i, own] + 1
        for end, (seen, suffix) in zip(ends.tolist(), row, strict=False):
            own = slice(end + 1 - len(suffix), end + 1)
            ids[i, own], position[i, own] = torch.tensor(suffix), seen + torch.arange(len(suffix))
            limit[i, own] = seen
    slot = torch.repeat_interleave(torch.arange(slots + 1), torch.tensor([begin, *widths]))
    ids, position, limit, slot, ends = (x.to(cached.device) for x in (ids, position, limit, slot, ends))
    key = torch.cat([cached, position], 1)
    of_key = torch.nn.functional.pad(slot, (cached.shape[1], 0))
    sees = (key[:, None] < limit[..., None]) & (of_key == 0)  # of the context, which is slot 0
    sees |= (of_key == slot[:, None]) & (key[:, None] <= position[..., None])
    sees &= (key >= 0)[:, None]
    return Packed(ids, position.clamp_min(0), key, sees, ends)
