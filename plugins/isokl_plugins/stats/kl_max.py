"""kl_max: the worst token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Array, Stat, TokenValues


@dataclass(frozen=True)
class KlMax(Stat):
    """Maximum of the per-token KL over prompts × tokens; target 4 nat.

    It has no interval: a maximum grows with the number of tokens that it is taken over, so there is no one number of
    which those of other prompts are estimates, and the largest token says nothing of how far others may go."""

    name: ClassVar[str] = "kl_max"
    target: ClassVar[float] = 4.0
    needs_base: ClassVar[bool] = False
    is_shift: ClassVar[bool] = True

    def __call__(self, steered: TokenValues, base: TokenValues) -> Array:
        import numpy as np

        most: Array = np.nanmax(steered.kl, axis=(-2, -1))
        return most

    def interval(self, steered: TokenValues, base: TokenValues) -> tuple[float, float]:
        from isokl_registry.interval import OPEN

        return OPEN
