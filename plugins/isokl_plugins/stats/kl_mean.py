"""kl_mean: the average budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Array, Stat, TokenValues


@dataclass(frozen=True)
class KlMean(Stat):
    """Mean of the per-token KL pooled over prompts × tokens; target 0.3 nat."""

    name: ClassVar[str] = "kl_mean"
    target: ClassVar[float] = 0.3
    needs_base: ClassVar[bool] = False
    is_shift: ClassVar[bool] = True

    def __call__(self, steered: TokenValues, base: TokenValues) -> Array:
        import numpy as np

        mean: Array = np.nanmean(steered.kl, axis=(-2, -1))
        return mean

    def interval(self, steered: TokenValues, base: TokenValues) -> tuple[float, float]:
        from isokl_registry.interval import smooth

        return smooth(self, steered, base)
