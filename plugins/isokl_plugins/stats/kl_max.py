"""kl_max: the worst token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Stat, TokenValues


@dataclass(frozen=True)
class KlMax(Stat):
    """Maximum of the per-token KL over prompts × tokens; target 4 nat."""

    name: ClassVar[str] = "kl_max"
    target: ClassVar[float] = 4.0

    def __call__(self, steered: TokenValues, base: TokenValues) -> float:
        import numpy as np

        return float(np.nanmax(steered.kl))
