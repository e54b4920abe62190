"""Texts with branches in one row: a context, and behind it several continuations that each see a part of it
and themselves. Which token sees which is told by a mask per token (a tree, as in speculative decoding)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

Branch = tuple[int, Sequence[int]]  # how many tokens of the context it sees, and its own


@dataclass(frozen=True)
class BranchedRows:
    """Rows to be fed, contexts padded on the left, every branch in a slot as wide as its widest.

    ids, position: [b, s]. key: [b, cached + s], the positions of what can be seen, −1 for padding. sees:
    [b, s, cached + s]. ends: [slots], the last column of each slot.
    """

    ids: Tensor
    position: Tensor
    key: Tensor
    sees: Tensor
    ends: Tensor


def branched_rows(
    contexts: Sequence[Sequence[int]], branches: Sequence[Sequence[Branch]], cached: Tensor
) -> BranchedRows:
    """Rows of a context and its branches: branch j of every row in slot j. Some may have fewer.

    Args:
        contexts: [b], token ids.
        branches: [b][branch], see Branch.
        cached: [b, columns], which position of its context each column of a cache holds, −1 for none; what it
            holds of a context, from its start, is not fed again.
    """
    known = cached.amax(-1).add(1).tolist()
    most = max(map(len, branches))
    rows = [
        [(start, context[start:]), *row, *[(0, ())] * (most - len(row))]  # slot 0 is the context's
        for context, start, row in zip(contexts, known, branches, strict=True)
    ]
    widths = torch.tensor([max(len(own) for _, own in slot) for slot in zip(*rows, strict=True)])
    cells = [list(chain.from_iterable(map(_padded, row, widths.tolist()))) for row in rows]
    ids, position = torch.tensor(cells, device=cached.device).unbind(-1)
    slot = torch.arange(1 + most).repeat_interleave(widths).to(cached.device)
    # how much of the context each token sees, beside its own slot
    limit = torch.tensor([[0, *(seen for seen, _ in row[1:])] for row in rows], device=cached.device)[:, slot]
    key = torch.cat([cached, position], 1)
    of_key = torch.nn.functional.pad(slot, (cached.shape[1], 0))
    sees = (key[:, None] < limit[..., None]) & (of_key == 0)
    sees |= (key[:, None] <= position[..., None]) & (of_key == slot[:, None])
    sees &= (key >= 0)[:, None]
    ends = widths.cumsum(0)[1:].to(cached.device) - 1
    return BranchedRows(ids, position.clamp_min(0), key, sees, ends)


def _padded(branch: Branch, width: int) -> list[tuple[int, int]]:
    """Ids and positions of a slot, padded on the left."""
    first, own = branch
    return [(0, -1)] * (width - len(own)) + list(zip(own, range(first, first + len(own)), strict=True))
