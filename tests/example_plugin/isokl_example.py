"""median_diff: the coordinate-wise median of the paired differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_registry import Contrast, Method, State, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class MedianDiff(Method):
    """Adds the median difference of the contrast pairs: y + c·v, v = median(P − N), unit.

    As mean_diff, but a few outlying pairs cannot turn the direction. The dose c is a length in the residual stream.
    """

    name: ClassVar[str] = "median_diff"

    def fit(self, contrast: Contrast) -> State:
        median = contrast.difference.quantile(0.5, dim=0)  # [n, d] to [d]
        if not median.norm() > 0:
            raise ValueError("the median difference is zero: most pairs are alike")
        return {"v": median / median.norm()}

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        return output + dose * state["v"]  # [b, s, d] + [b, 1, 1] * [d]


@hookimpl
def register_methods(register: Callable[[type[Method]], None]) -> None:
    register(MedianDiff)
