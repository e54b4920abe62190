"""kl_max: the worst token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_registry import Stat, TokenValues

if TYPE_CHECKING:
    from isokl_registry.stat import Array


@dataclass(frozen=True)
class KlMax(Stat):
    """Maximum of the per-token KL over prompts × tokens; target 4 nat."""

    name: ClassVar[str] = "kl_max"
    target: ClassVar[float] = 4.0
    needs_base: ClassVar[bool] = False

    def __call__(self, steered: TokenValues, base: TokenValues) -> Array:
        import numpy as np

        most: Array = np.nanmax(steered.kl, axis=(-2, -1))
        return most
