"""nll: how much more the steered text surprises the base model than its own text does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Array, Stat, TokenValues


@dataclass(frozen=True)
class Nll(Stat):
    """Mean base NLL of steered greedy text minus that of the base model's own greedy text; target 0.10 nat."""

    name: ClassVar[str] = "nll"
    target: ClassVar[float] = 0.1

    def __call__(self, steered: TokenValues, base: TokenValues) -> Array:
        import numpy as np

        excess: Array = np.nanmean(steered.nll, axis=(-2, -1)) - np.nanmean(base.nll, axis=(-2, -1))
        return excess

    def interval(self, steered: TokenValues, base: TokenValues) -> tuple[float, float]:
        from isokl_registry.interval import smooth

        return smooth(self, steered, base)
