"""pca: the first principal direction of the paired differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_plugins.methods.vectors import AdditiveMethod, differences, principal
from isokl_registry import Contrast, State


@dataclass(frozen=True)
class Pca(AdditiveMethod):
    """Adds the first right singular vector of the uncentred differences: y + c·v, sign so that mean(D)·v > 0.

    Source: RepE, arXiv:2310.01405. Uncentred, because centring removes the contrast itself and leaves the sign to
    chance. The dose c is a length in the residual stream (v is a unit vector).
    """

    name: ClassVar[str] = "pca"

    def fit(self, contrast: Contrast) -> State:
        difference = differences(contrast)
        return {"v": principal(difference, difference.mean(0)).float()}
