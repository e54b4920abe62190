"""mean_diff: the mean of the paired differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_plugins.methods.vectors import AdditiveMethod, unit
from isokl_registry import Contrast, State


@dataclass(frozen=True)
class MeanDiff(AdditiveMethod):
    """Adds the mean difference of the contrast pairs: y + c·v, v = mean(P − N).

    Source: CAA, arXiv:2312.06681; ActAdd, arXiv:2308.10248. The dose c is a length in the residual stream when
    `normalize` is true (v a unit vector), else a multiple of the mean difference. Mean-centring (target mean minus
    pooled mean, arXiv:2312.03813) is the same direction here, because both groups have the same size.
    """

    name: ClassVar[str] = "mean_diff"
    normalize: bool = True

    def fit(self, contrast: Contrast) -> State:
        mean = contrast.difference.mean(0)
        direction = unit(mean)
        return {"v": direction if self.normalize else mean}
