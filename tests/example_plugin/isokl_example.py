"""median_diff, the coordinate-wise median of the paired differences, and worst_token, the price of a text's oddest word."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_registry import Column, Contrast, Measurement, Method, Metric, Session, State, hookimpl

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


@dataclass(frozen=True)
class WorstToken(Metric):
    """The base model's surprise at the least likely token of each greedy holdout text, in nats, and its change."""

    name: ClassVar[str] = "worst_token"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "worst_change",
            "Δ worst token",
            unit="nat",
            signed=True,
            role="side effect",
            larger_is_better=False,
            base=Column("worst", unit="nat"),
            note="base-model surprise at the least likely token of a text",
        ),
    )
    window: int = 20  # a field is a parameter: worst_token[window=50]

    @property
    def tokens(self) -> int:
        return self.window

    def measure(self, session: Session) -> Iterable[Measurement]:
        import numpy as np

        # [alpha, prompt, token] to [alpha, prompt]
        worst = np.nanmax(session.rollout(self.window).nll, axis=-1)
        yield Measurement("worst", worst)
        yield Measurement("worst_change", worst - worst[0])  # alpha 0 is always the first


@hookimpl
def register_methods(register: Callable[[type[Method]], None]) -> None:
    register(MedianDiff)


@hookimpl
def register_metrics(register: Callable[[type[Metric]], None]) -> None:
    register(WorstToken)
