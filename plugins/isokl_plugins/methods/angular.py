"""angular: rotate what the residual stream has in one plane, and leave the rest alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_plugins.methods.vectors import unit
from isokl_registry import Contrast, Method, State

if TYPE_CHECKING:
    from torch import Tensor

FLAT = 1e-4  # spread of unit differences under which there is no second direction, only rounding


@dataclass(frozen=True)
class Angular(Method):
    """Rotates the part of y in the plane (b1, b2) by the angle c towards b1; its length and the rest of y are kept.

    Source: angular steering, arXiv:2510.26243, with the angle measured from where y is rather than from b1, so that
    0 is the identity. b1 = mean(P − N), unit; b2 = first principal component (centred) of the unit differences of
    the pairs, made orthogonal to b1: the plane in which the contrast mostly lies. It cannot make activations longer.

    The dose c is in radians, in [0, π]. Towards b1 is the shorter way round, for each token by itself: a part on b2's
    side of b1 turns one way, a part on the other side the other way (one exactly on the line of b1 as if on b2's). The
    angle is c for every token, so one nearer to b1 than c turns past it; the more do, the less a dose adds. c = π turns
    every part to its opposite. A negative dose turns away from b1 by the same rule. Beyond ±π it goes round.
    """

    name: ClassVar[str] = "angular"
    operation: ClassVar[str] = "rotate"
    dose_range: ClassVar[tuple[float, float]] = (0.0, math.pi)

    def fit(self, contrast: Contrast) -> State:
        """plane: [2, d], the rows b1 and b2. Raises ValueError where the pairs differ along one direction only."""
        import torch

        difference = contrast.difference.double()
        b1 = unit(difference.mean(0))
        length = difference.norm(dim=1, keepdim=True)
        units = (difference / length)[length[:, 0] > 0]  # a pair without a difference has no direction
        spread = units - units.mean(0)
        _, sizes, components = torch.linalg.svd(spread, full_matrices=False)
        b2 = components[0] - (components[0] @ b1) * b1
        if sizes[0] <= FLAT * len(units) ** 0.5 or b2.norm() <= FLAT:
            raise ValueError(
                "the contrast has one direction, and a plane needs two: give more pairs, or use spherical"
            )
        return {"plane": torch.stack([b1, unit(b2)]).float()}

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        import torch

        plane = state["plane"]
        part = output @ plane.T
        x, y = part[..., :1], part[..., 1:]
        sine = torch.where(y < 0, -1.0, 1.0) * dose.sin()  # clockwise from b2's side of b1
        less = -2 * (dose / 2).sin().square()  # cos − 1: exact for small angles, and 0 at 0
        return output + torch.cat([less * x + sine * y, less * y - sine * x], dim=-1) @ plane
