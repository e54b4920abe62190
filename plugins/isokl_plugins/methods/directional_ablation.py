"""directional_ablation: take a direction out of the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_plugins.methods.vectors import unit
from isokl_registry import Contrast, Method, State

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DirectionalAblation(Method):
    """Removes the component along the mean difference: y − c·(y·v)v, v = mean(P − N), unit.

    Source: arXiv:2406.11717. c = 1 removes the direction, 0 < c < 1 weakens it, c < 0 amplifies it, c > 1 turns it
    round. The dose has no persona's side: which way behavior moves depends on which side y was on.
    """

    name: ClassVar[str] = "directional_ablation"
    operation: ClassVar[str] = "project"

    def fit(self, contrast: Contrast) -> State:
        return {"v": unit(contrast.difference.mean(0))}

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        v = state["v"]
        return output - dose * (output @ v).unsqueeze(-1) * v
