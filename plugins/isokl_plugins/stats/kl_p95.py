"""kl_p95: the default budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Array, Stat, TokenValues


@dataclass(frozen=True)
class KlP95(Stat):
    """95th percentile (linear interpolation) of the per-token KL pooled over prompts × tokens; target 1 nat."""

    name: ClassVar[str] = "kl_p95"
    target: ClassVar[float] = 1.0
    needs_base: ClassVar[bool] = False
    is_shift: ClassVar[bool] = True

    def __call__(self, steered: TokenValues, base: TokenValues) -> Array:
        import numpy as np

        pool = np.sort(steered.kl.reshape(*steered.kl.shape[:-2], -1))  # NaN last
        rank = 0.95 * ((~np.isnan(pool)).sum(-1, keepdims=True) - 1)
        low = np.floor(rank).astype(int)
        high = np.ceil(rank).astype(int)
        below, above = (np.take_along_axis(pool, index, -1)[..., 0] for index in (low, high))
        share = (rank - low)[..., 0]
        with np.errstate(invalid="ignore"):  # infinity between infinities
            between = below + share * (above - below)
        return np.where(above == below, below, between)

    def interval(self, steered: TokenValues, base: TokenValues) -> tuple[float, float]:
        from isokl_registry.interval import percentile

        return percentile(steered.kl, 95)
