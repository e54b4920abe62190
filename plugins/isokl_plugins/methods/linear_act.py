"""linear_act: carry each coordinate's distribution from the negative persona's to the positive one's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_plugins.methods.vectors import unit
from isokl_registry import Contrast, Method, State

if TYPE_CHECKING:
    from torch import Tensor

CONSTANT = 1e-6  # spread of a coordinate, relative to its size, that is only rounding


@dataclass(frozen=True)
class LinearAct(Method):
    """Moves each coordinate by an affine map from N to P: y + c·(T(y) − y), T(y) = ω·(y − mean N) + mean P.

    Source: Linear-AcT, openreview l2zFn6TIQi. Optimal transport between two sets of numbers pairs them in order of
    size; ω = Σãb̃ / Σã² is the slope that fits the pairs best, ã and b̃ the sorted values of N and P less their means.
    A coordinate that is constant in N keeps its scale (ω = 1) and is only shifted. With ω = 1 throughout this is
    mean_diff[normalize=false]; what it adds is scale.

    The dose c is a share of the way, in [0, ∞): in [0, 1] transport proper, and at 1 a coordinate has the positive
    persona's mean and, where the quantiles lie on a line, its quantiles. Beyond 1 the map is extrapolated, and turns
    a coordinate's order round where ω < 1 − 1/c; negative doses extrapolate the other way. The map is fitted at the
    prompts' last token: on values far from those there, the slope is a guess.
    """

    name: ClassVar[str] = "linear_act"
    operation: ClassVar[str] = "affine"

    def fit(self, contrast: Contrast) -> State:
        """slope = ω − 1, center = mean N, shift = mean P − mean N, [d] each: T(y) − y = slope·(y − center) + shift."""
        negative = contrast.negative.double().sort(dim=0).values
        positive = contrast.positive.double().sort(dim=0).values
        unit((positive - negative).flatten())
        center, goal = negative.mean(0), positive.mean(0)
        a, b = negative - center, positive - goal
        constant = a.abs().amax(0) <= CONSTANT * negative.abs().amax(0)
        variance = a.square().sum(0).masked_fill(constant, 1.0)
        slope = ((a * b).sum(0) / variance - 1).masked_fill(constant, 0.0)
        return {"slope": slope.float(), "center": center.float(), "shift": (goal - center).float()}

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        return output + dose * (state["slope"] * (output - state["center"]) + state["shift"])
