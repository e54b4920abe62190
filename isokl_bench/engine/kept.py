"""Caches that outlive their rollout, so that its forks need not read the texts again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from isokl_bench.engine.cache import cut_rows

if TYPE_CHECKING:
    from isokl_bench.engine.rollout import Row

SHARE = 0.25  # of the memory, at most


@dataclass(frozen=True, eq=False)
class Kept:
    """What is known of some rows of a rollout when they leave their batch: keys and values of their prompts and of all
    they wrote but the last token, below the branch (the first `split` layers) as above it.

    position: [row, column], that each column holds; −1 for none."""

    rows: Sequence[Row]
    cache: Cache
    split: int
    position: Tensor

    def take(self, rows: Sequence[Row], texts: Sequence[int]) -> tuple[Cache, Tensor]:
        """A cache of some of the rows to go on with, and its positions [text, column]. texts: the places in `rows` of
        those whose text stands for all that have the same."""
        upper = [self._place[row] for row in rows]
        lower = [upper[i] for i in texts]
        cache = cut_rows(self.cache, self.split, (lower, [0] * len(lower)), (upper, [0] * len(upper)))
        return cache, self.position[lower]

    @cached_property
    def _place(self) -> dict[Row, int]:
        return {row: i for i, row in enumerate(self.rows)}


def keep(
    cache: Cache,
    split: int,
    mask: Tensor,
    rows: Sequence[Row],
    where: tuple[Sequence[int], Sequence[int]],
    read: Sequence[int],
) -> Kept:
    """Copies from a batch. where: the places of the rows below and above the branch. mask: [row below, column].
    read: how many tokens of each row are in the cache; what lies behind them is of no meaning."""
    lower, upper = where
    copied = cut_rows(cache, split, (lower, [0] * len(lower)), (upper, [0] * len(upper)))
    mask = mask[list(lower)]
    position = torch.where(mask.bool(), mask.cumsum(-1) - 1, -1)
    end = torch.tensor(read, device=mask.device)[:, None]
    return Kept(rows, copied, split, position.where(position < end, -1))
