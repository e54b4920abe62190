"""kl_mean: the average budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Stat, TokenValues


@dataclass(frozen=True)
class KlMean(Stat):
    """Mean of the per-token KL pooled over prompts × tokens; target 0.3 nat."""

    name: ClassVar[str] = "kl_mean"
    target: ClassVar[float] = 0.3

    def __call__(self, steered: TokenValues, base: TokenValues) -> float:
        import numpy as np

        return float(np.nanmean(steered.kl))
