"""sspace_ablate: take a direction out of the singular coordinates of a Linear's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_plugins.methods.singular import LINEARS, Basis, Truncated, bias, weight
from isokl_registry import Contrast, State

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SSpaceAblate(Truncated):
    """Removes the contrast in a weight's singular basis: y − c·(x_S·d̂)(d̂∘√S)Uᵀ.

    x_S = (y − b)U/√S and d̂ as in sspace: d̂ is unit in the r coordinates in which the means of P and N differ most. In
    the output's own coordinates this is an oblique projection, along v = U(d̂∘√S) until (y − b)·w = 0 with
    w = U(d̂/√S), v·w = 1. Sites: the output Linears of MLP and attention.

    Source: steering-lite's `sspace_ablate`, without its added step. c = 1 removes the direction, 0 < c < 1 weakens it,
    c < 0 amplifies it, c > 1 turns it round; the dose has no persona's side. Fails as ablation does where the direction
    is hardly there: c = 1 is far under the budget, which is then spent on turning it round. Where √S varies much,
    w is far from v and the step is longer than what it removes.
    """

    name: ClassVar[str] = "sspace_ablate"
    operation: ClassVar[str] = "project"
    linears: ClassVar[tuple[str, ...]] = LINEARS

    def fit(self, contrast: Contrast) -> State:
        matrix = weight(contrast.module)
        chosen, d = Basis.of_gram(matrix @ matrix.T).top(contrast, self.r)
        v, w = chosen.vectors @ (d * chosen.roots), chosen.vectors @ (d / chosen.roots)
        offset = (bias(contrast.module, len(matrix)) @ w).view(1)
        return {"v": v.float(), "w": w.float(), "offset": offset.float()}

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        along = output @ state["w"] - state["offset"]
        return output - dose * along.unsqueeze(-1) * state["v"]
