"""cosine_gated: the mean difference, where a token has something of it already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_plugins.methods.vectors import unit
from isokl_registry import Contrast, Method, State

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CosineGated(Method):
    """Adds the mean difference as far as a token lies along it: y + c·relu(|cos(y, v)| − tau)·v, v = mean(P − N), unit.

    After CAST, arXiv:2409.05907, which gates by a direction of its own; here the gate and the push share v, and the gate
    is a slope instead of a step. Intuition: tokens that have nothing to do with the behavior are left alone. Known failure:
    it cannot bring in what is absent, and where tau is above every token's |cos| it does nothing at any dose. The dose c
    is a length in the residual stream for a token along ±v; |cos| is small in many dimensions, so calibrated doses are
    much larger than mean_diff's. Positive is towards the positive persona.
    """

    name: ClassVar[str] = "cosine_gated"
    tau: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.tau < 1:
            raise ValueError(
                f"tau={self.tau:g} is not a threshold for |cos|: give 0 or more, and less than 1"
            )

    def fit(self, contrast: Contrast) -> State:
        return {"v": unit(contrast.difference.mean(0))}

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        v = state["v"]
        cosine = (output @ v) / output.norm(dim=-1).clamp_min(1e-12)
        gate: Tensor = (cosine.abs() - self.tau).relu().unsqueeze(-1)  # [b, s, 1]
        return output + dose * gate * v
