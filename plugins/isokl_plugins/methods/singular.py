"""Coordinates of an output in the singular basis of the weights that write it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from isokl_plugins.methods.vectors import unit
from isokl_registry import Contrast, Method, State

if TYPE_CHECKING:
    from torch import Tensor, nn

# The Linears that write to the residual stream, by the names that architectures give them.
LINEARS = ("mlp.down_proj|mlp.c_proj", "self_attn.o_proj|attn.c_proj|linear_attn.out_proj")
# Singular values below this share of the largest are taken for 0: an output has next to nothing there, and what a
# 16-bit activation was rounded by, divided by their roots, would pass for a coordinate.
CUTOFF = 1e-4


@dataclass(frozen=True)
class Basis:
    """W = U S Vᵀ seen from its output. vectors: U, [d, k]. roots: √S, [k], all above 0. Both float64."""

    vectors: Tensor
    roots: Tensor

    @classmethod
    def of_gram(cls, gram: Tensor) -> Basis:
        """Of W, given W Wᵀ ([d, d] float64), whose eigenvectors are U and whose eigenvalues are S².

        Raises ValueError when the weights are zero or not finite."""
        import torch

        if not gram.isfinite().all() or not gram.any():
            raise ValueError("the weights are zero or not finite, so they have no singular basis")
        squares, vectors = torch.linalg.eigh(gram)
        kept = squares > CUTOFF**2 * squares[-1]
        return cls(vectors[:, kept], squares[kept] ** 0.25)

    def coordinates(self, output: Tensor) -> Tensor:
        """x_S = y U/√S, [..., k] of [..., d]; for y = W x that is √S Vᵀx."""
        return output @ self.vectors / self.roots

    def top(self, contrast: Contrast, r: int) -> tuple[Basis, Tensor]:
        """The r coordinates in which the contrast's mean x_S differ most, and that difference there: unit, [r].

        A bias cancels in it. Raises ValueError when the difference is zero."""
        difference = self.coordinates(contrast.difference.double().mean(0))
        chosen = difference.abs().topk(min(r, len(difference))).indices.sort().values
        return Basis(self.vectors[:, chosen], self.roots[chosen]), unit(difference[chosen])


@dataclass(frozen=True)
class Truncated(Method):
    """A method that keeps the r coordinates in which the contrast is largest, all where there are fewer."""

    r: int = 64

    def __post_init__(self) -> None:
        if self.r < 1:
            raise ValueError(f"r={self.r} keeps no coordinate: give 1 or more")


def weight(module: nn.Module) -> Tensor:
    """The matrix W of a Linear or Conv1D: [out, in] float64 on the CPU.

    Raises ValueError for any other module, and for weights that are packed or scaled (quantised)."""
    import torch
    from transformers.pytorch_utils import Conv1D

    found = getattr(module, "weight", None)
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if isinstance(found, torch.Tensor) and found.ndim == 2 and found.dtype in floats:
        matrix = found.detach().cpu().double()
        if isinstance(module, Conv1D):  # keeps it as [in, out]
            return matrix.T
        if matrix.shape == (getattr(module, "out_features", None), getattr(module, "in_features", None)):
            return matrix
    raise ValueError(
        f"{type(module).__name__} has no 2-D weight of floats: take a method that needs no weights, such as "
        "mean_diff, or a model that is not quantised"
    )


def bias(module: nn.Module, width: int) -> Tensor:
    """The bias of a Linear, 0 where it has none: [width] float64 on the CPU."""
    import torch

    found = getattr(module, "bias", None)
    return torch.zeros(width).double() if found is None else found.detach().cpu().double()


def gated_state(contrast: Contrast, basis: Basis, offset: Tensor, r: int) -> State:
    """What `gated_edit` needs, for outputs of which `offset` ([d]) is no part of W x.

    whiten: U/√S, [d, r]. offset: its coordinates, [r]. d: d̂, [r]. v: U(d̂∘√S), what a dose of 1 adds, [d]."""
    chosen, d = basis.top(contrast, r)
    state = {
        "whiten": chosen.vectors / chosen.roots,
        "offset": chosen.coordinates(offset),
        "d": d,
        "v": chosen.vectors @ (d * chosen.roots),
    }
    return {name: tensor.float() for name, tensor in state.items()}


def gated_edit(output: Tensor, dose: Tensor, state: State) -> Tensor:
    """y + c·|cos(x_S, d̂)|·v; the cosine is 0 where x_S is."""
    from torch.nn.functional import cosine_similarity

    coordinates = output @ state["whiten"] - state["offset"]
    gate = cosine_similarity(coordinates, state["d"], dim=-1).abs().unsqueeze(-1)
    return output + dose * gate * state["v"]
