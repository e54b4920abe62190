"""super_sspace: a gated step in one singular basis of all that a block reads from and writes to the stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_plugins.methods.singular import Basis, Truncated, gated_edit, gated_state, weight
from isokl_registry import Contrast, State

if TYPE_CHECKING:
    from torch import Tensor, nn

# Last part of the names of Linears that write to the stream, for those that are square.
WRITERS = ("o_proj", "out_proj", "down_proj", "c_proj", "dense", "dense_4h_to_h", "fc2", "fc_out", "wo", "w2")


@dataclass(frozen=True)
class SuperSSpace(Truncated):
    """As sspace on the block's output, in one basis of all the block's weights: y + c·|cos(x_S, d̂)|·(d̂∘√S)Uᵀ.

    U and S² are eigenvectors and eigenvalues of Σ W Wᵀ over the Linears that write to the residual stream, plus Σ WᵀW
    over those that read it; x_S = yU/√S. Pooled, the weights say which directions of the stream the block uses, and
    no single Linear's smallest singular values decide. A Linear of [width, other] writes, one of [other, width] reads;
    a square one writes when it is named as one that does (o_proj, out_proj, c_proj …).

    Source: steering-lite's `super_sspace`, but one basis per block, and d̂ unit in x_S as in sspace. The cosine is taken
    over the r coordinates. The dose c is a length in x_S; c > 0 moves towards P. Fails where a block reads through a
    norm of very uneven gains: they are left out, so the basis is not the one in which it reads.
    """

    name: ClassVar[str] = "super_sspace"

    def fit(self, contrast: Contrast) -> State:
        width = contrast.positive.shape[-1]
        gram = pooled_gram(contrast.module, width)
        return gated_state(contrast, Basis.of_gram(gram), gram.new_zeros(width), self.r)

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        return gated_edit(output, dose, state)


def pooled_gram(block: nn.Module, width: int) -> Tensor:
    """Σ W Wᵀ over the writers and Σ WᵀW over the readers of a stream of this width: [width, width] float64.

    Raises ValueError when the block has none, or a Linear whose weights cannot be read."""
    import torch

    pooled, found = torch.zeros(width, width).double(), False
    for name, module in block.named_modules():
        if not (hasattr(module, "in_features") or type(module).__name__ == "Conv1D"):
            continue
        matrix = weight(module)
        outputs, inputs = matrix.shape
        if outputs == width and (inputs != width or name.rsplit(".", 1)[-1] in WRITERS):
            pooled += matrix @ matrix.T
        elif inputs == width:
            pooled += matrix.T @ matrix
        else:
            continue
        found = True
    if not found:
        raise ValueError(
            f"{type(block).__name__} has no Linear that reads or writes a stream of width {width}"
        )
    return pooled
