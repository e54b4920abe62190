"""sspace: a gated step in the singular basis of the Linears that write to the residual stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_plugins.methods.singular import LINEARS, Basis, Truncated, bias, gated_edit, gated_state, weight
from isokl_registry import Contrast, State

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class SSpace(Truncated):
    """Adds the contrast in a weight's singular basis, as far as a token is in line: y + c·|cos(x_S, d̂)|·(d̂∘√S)Uᵀ.

    W = U S Vᵀ and b are the Linear's weight and bias, x_S = (y − b)U/√S = √S Vᵀx its output half way between output
    and input, d̂ the difference of the means of x_S over P and over N, in its r largest coordinates, unit. Directions
    that W hardly writes weigh more in x_S than in y, and the step back to y damps them. Sites: the output Linears of
    MLP and attention.

    Source: steering-lite's `sspace`. The cosine is taken over the r coordinates: over all of them it would shrink with
    the width, and a steering would carry the whole basis, d × d numbers per site. The dose c is a length in x_S; the
    gate has no sign, so c > 0 moves towards P. Fails where a norm follows the Linear inside the block (Gemma 3,
    OLMo 2): the norm undoes the length that a large dose adds, and the effect levels off.
    """

    name: ClassVar[str] = "sspace"
    linears: ClassVar[tuple[str, ...]] = LINEARS

    def fit(self, contrast: Contrast) -> State:
        matrix = weight(contrast.module)
        offset = bias(contrast.module, len(matrix))
        return gated_state(contrast, Basis.of_gram(matrix @ matrix.T), offset, self.r)

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        return gated_edit(output, dose, state)
