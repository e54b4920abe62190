"""Caches that outlive their rollout, so that its forks need not read the texts again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from isokl_bench.engine.cache import copy_rows, positions

Place = tuple[int, int]  # of a row in a rollout: dose, prompt
SHARE = 0.25  # of the memory, at most


@dataclass(frozen=True, eq=False)
class CacheSnapshot:
    """What is known of some rows of a rollout when they leave their batch: keys and values of their prompts
    and of all they wrote but the last token, below the branch (the first `split` layers) as above it.

    position: [row, column], that each column holds; −1 for none."""

    rows: Sequence[Place]
    cache: Cache
    split: int
    position: Tensor

    def take(self, rows: Sequence[Place], texts: Sequence[int]) -> tuple[Cache, Tensor]:
        """A cache of some of the rows to go on with, and its positions [text, column]. texts: the places in
        `rows` of those whose text stands for all that have the same."""
        upper = torch.tensor([self._index[row] for row in rows], device=self.position.device)
        lower = upper[list(texts)]
        return copy_rows(self.cache, self.split, lower, upper), self.position[lower]

    @cached_property
    def _index(self) -> dict[Place, int]:
        return {row: i for i, row in enumerate(self.rows)}


def snapshot(
    cache: Cache, split: int, mask: Tensor, rows: Sequence[Place], lower: Tensor, upper: Tensor, read: Tensor
) -> CacheSnapshot:
    """Copy rows out of a batch. lower, upper: [rows], where they are below and above the branch. mask: [row
    below, column]. read: [rows], how many of a row's tokens are in the cache; what lies behind them is of no
    meaning, and wiped."""
    copied = copy_rows(cache, split, lower, upper)
    position = positions(mask[lower])
    position = position.where(position < read[:, None], -1)
    for layer in copied.layers:
        for held in (layer.keys, layer.values):
            held.masked_fill_((position < 0)[:, None, :, None], 0.0)
    return CacheSnapshot(rows, copied, split, position)
