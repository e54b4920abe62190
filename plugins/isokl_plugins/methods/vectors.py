"""What methods that fit a direction share."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from isokl_registry import Contrast, Method, State

if TYPE_CHECKING:
    from torch import Tensor


class AdditiveMethod(Method):
    """A method that adds one vector at every token: y + c·v. Its `fit` returns {"v": [d]} and nothing else."""

    linear: ClassVar[bool] = True

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        return output + dose * state["v"]


def differences(contrast: Contrast) -> Tensor:
    """D = P − N, [n, d] float64. Raises ValueError where all of it is zero."""
    difference = contrast.difference.double()
    unit(difference.flatten())
    return difference


def principal(rows: Tensor, towards: Tensor) -> Tensor:
    """First right singular vector of the rows [n, d] (not centred), [d], on the side of `towards` [d]."""
    import torch

    direction = torch.linalg.svd(rows, full_matrices=False).Vh[0]
    return unit(direction if towards @ direction >= 0 else -direction)


def unit(vector: Tensor) -> Tensor:
    """vector / ‖vector‖. Raises ValueError for a zero vector: the contrast is constant."""
    norm = vector.norm()
    if not norm > 0:
        raise ValueError("the contrast is zero: positive and negative personas give the same activations")
    scaled: Tensor = vector / norm
    return scaled
