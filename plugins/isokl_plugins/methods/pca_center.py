"""pca_center: the first principal component of both personas' activations, each pair centred on its midpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_plugins.methods.vectors import AdditiveMethod, differences, principal
from isokl_registry import Contrast, State


@dataclass(frozen=True)
class PcaCenter(AdditiveMethod):
    """Adds the first component of the activations centred pair by pair: y + c·v, sign so that mean(P)·v > mean(N)·v.

    The rows are p − (p+n)/2 and n − (p+n)/2: what is common to a pair, its message, is gone and the personas remain.
    Source: repeng's `pca_center`, but for the sign, which it takes from a vote of the pairs. These rows are ±(p − n)/2,
    so on pairs the direction is that of `pca`, by another way; it is here so that numbers found under this name can be
    compared. It fails as `pca` does: where pairs differ most in something that is not the behavior. The dose c is a
    length in the residual stream (v is a unit vector), positive towards the positive persona.
    """

    name: ClassVar[str] = "pca_center"
    same_as: ClassVar[str] = "pca"

    def fit(self, contrast: Contrast) -> State:
        import torch

        differences(contrast)
        positive, negative = contrast.positive.double(), contrast.negative.double()
        middle = (positive + negative) / 2
        rows = torch.cat([positive - middle, negative - middle])
        return {"v": principal(rows, positive.mean(0) - negative.mean(0)).float()}
