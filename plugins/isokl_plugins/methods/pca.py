"""pca: the first principal direction of the paired differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_plugins.methods.vectors import unit
from isokl_registry import Contrast, Method, State

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Pca(Method):
    """Adds the first right singular vector of the uncentred differences: y + c·v, sign so that mean(D)·v > 0.

    Source: RepE, arXiv:2310.01405. Uncentred, because centring removes the contrast itself and leaves the sign to
    chance. The dose c is a length in the residual stream (v is a unit vector).
    """

    name: ClassVar[str] = "pca"

    def fit(self, contrast: Contrast) -> State:
        import torch

        difference = (
            contrast.difference.double()
        )  # SVD in float64: the sign and the last digits do not wander
        unit(difference.flatten())
        direction = torch.linalg.svd(difference, full_matrices=False).Vh[0]
        sign = 1.0 if difference.mean(0) @ direction >= 0 else -1.0
        return {"v": unit(sign * direction).float()}

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        return output + dose * state["v"]
