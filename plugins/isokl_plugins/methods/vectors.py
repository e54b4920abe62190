"""What fitting a direction shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def unit(vector: Tensor) -> Tensor:
    """vector / ‖vector‖. Raises ValueError for a zero vector: the contrast is constant."""
    norm = vector.norm()
    if not norm > 0:
        raise ValueError("the contrast is zero: positive and negative personas give the same activations")
    scaled: Tensor = vector / norm
    return scaled
