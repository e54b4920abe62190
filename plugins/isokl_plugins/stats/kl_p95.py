"""kl_p95: the default budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Stat, TokenValues


@dataclass(frozen=True)
class KlP95(Stat):
    """95th percentile (linear interpolation) of the per-token KL pooled over prompts × tokens; target 1 nat."""

    name: ClassVar[str] = "kl_p95"
    target: ClassVar[float] = 1.0

    def __call__(self, steered: TokenValues, base: TokenValues) -> float:
        import numpy as np

        pool = steered.kl[~np.isnan(steered.kl)]
        return float(np.percentile(pool, 95))
