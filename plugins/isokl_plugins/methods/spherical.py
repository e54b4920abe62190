"""spherical: turn the residual stream towards the mean difference, and leave its length alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_plugins.methods.vectors import unit
from isokl_registry import Contrast, Method, State

if TYPE_CHECKING:
    from torch import Tensor

ALIGNED = 1e-6  # sine of the angle to v under which rounding alone decides where "across v" points


@dataclass(frozen=True)
class Spherical(Method):
    """Rotates y towards the mean difference by a share of the angle between them: by c·Ω, Ω = ∠(y, v), ‖y‖ kept.

    Source: spherical steering, arXiv:2602.08169, without its gate. Layers above normalise, so a direction is most of
    what they read; a rotation changes it without the growth in length that an added vector brings.

    The dose c is a share of the way, so in [0, 1]: at 0.5 every y is half as far from v as it was, at 1 it is ‖y‖·v.
    A negative dose is the same towards −v, by |c|·(π − Ω), with all of y there at −1. Beyond ±1 y turns past its goal
    and away again, so no stat is monotone there: a budget out of reach within the range is reported as not reached.
    A y on the line of v, from which every way round is as short, turns through one fixed direction.
    """

    name: ClassVar[str] = "spherical"
    operation: ClassVar[str] = "rotate"
    dose_range: ClassVar[tuple[float, float]] = (0.0, 1.0)

    def fit(self, contrast: Contrast) -> State:
        import torch

        v = unit(contrast.difference.double().mean(0))
        across = -v[v.abs().argmin()] * v  # the axis most nearly orthogonal to v, made exactly so
        across[v.abs().argmin()] += 1
        return {"v": v.to(torch.float32), "across": unit(across).to(torch.float32)}

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        import torch

        v = state["v"]
        along = (output * v).sum(-1, keepdim=True)
        rest = output - along * v
        rest = rest - (rest * v).sum(-1, keepdim=True) * v  # near the line of v, once leaves mostly rounding
        width = rest.norm(dim=-1, keepdim=True)
        straight = width <= ALIGNED * torch.hypot(along, width)
        across = torch.where(straight, state["across"], rest / width)
        # the angle from both its legs: unlike an arc cosine, exact near 0 and π, with nothing to clamp
        turn = dose * torch.where(dose < 0, torch.atan2(width, -along), torch.atan2(width, along))
        less = -2 * (turn / 2).sin().square()  # cos − 1: exact for small turns, and 0 at 0
        rotated: Tensor = output + less * output + turn.sin() * (width * v - along * across)
        return rotated
