"""What a metric is: something measured on holdout prompts at each alpha, from rollouts that all metrics share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from isokl_registry.component import Component

if TYPE_CHECKING:
    from numpy import bool_, float64
    from numpy.typing import NDArray

    Array = NDArray[float64]


REPLY_END = (
    -1
)  # as a fork point: where the reply ends by itself, or at the last of the other points if it goes on


@dataclass(frozen=True)
class Measurement:
    """One quantity at each alpha, holdout prompt and (where there are any) position. NaN means unscored, and `reason` says why.

    values: [alpha, prompt] or [alpha, prompt, position]. positions: the token or fork index of the last axis. share: each
    value is 0 or 1, so that the mean is a share of prompts, and has the interval of one.
    """

    quantity: str
    values: Array
    positions: Sequence[int] | None = None
    reason: str = ""
    share: bool = False


@dataclass(frozen=True)
class RolloutValues:
    """Greedy rollouts of the holdout prompts; each array [alpha, prompt, token], NaN where a row has ended."""

    kl: Array
    nll: Array


@dataclass(frozen=True)
class ForkValues:
    """The model interrupted and made to answer at fork points of a rollout; each array [alpha, prompt, fork].

    log_mass_first, log_mass_second: log of the summed probability of the tokens that write the first or the second
    answer. logit_first, logit_second: logit of the first listed token of each. NaN where the row had ended.
    """

    points: Sequence[int]
    log_mass_first: Array
    log_mass_second: Array
    logit_first: Array
    logit_second: Array

    @property
    def arrays(self) -> tuple[Array, Array, Array, Array]:
        """The four, in the order of the fields."""
        return self.log_mass_first, self.log_mass_second, self.logit_first, self.logit_second


class Session(Protocol):
    """What a metric may ask for. Alpha 0, the unsteered model, is always the first of `alphas`."""

    @property
    def alphas(self) -> Sequence[float]: ...
    @property
    def first_is_target(self) -> NDArray[bool_]:
        """[prompt]: whether the positive persona's answer is the first answer word."""
        ...

    def rollout(self, window: int) -> RolloutValues: ...
    def forks(self, points: Sequence[int]) -> ForkValues:
        """points: numbers of tokens after which the reply is cut, and REPLY_END."""
        ...


class Metric(Component, ABC):
    """An effect or a side effect. `window` is how many tokens of rollout it will ask for, so that one generation
    can serve all metrics."""

    kind: ClassVar[str] = "metric"

    @property
    def tokens(self) -> int:
        """Longest rollout that `measure` will ask for."""
        return 0

    @abstractmethod
    def measure(self, session: Session) -> Iterable[Measurement]: ...
