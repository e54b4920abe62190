"""What a run stores, one frozen dataclass per table; a field's name is its column's name.

A value that could not be had is None *with a reason*; a value that is there has none. NaN and infinity are
neither: they are refused here with `ValueError`, and once more by the tables' own CHECKs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

Sign = Literal[1, -1]


class Outcome(StrEnum):
    """How a calibration ended. A member is its own text, which is what the store holds."""

    CONVERGED = "converged"
    JUMP = "jump"
    BUDGET_NOT_REACHED = "budget_not_reached"
    BUDGET_EXCEEDED = "budget_exceeded"
    NO_DOSE = "no_dose"

    @property
    def measured(self) -> bool:
        """Whether there is a strength at which something can be measured."""
        return self in (Outcome.CONVERGED, Outcome.JUMP, Outcome.NO_DOSE)

    @property
    def words(self) -> str:
        """As people read it."""
        return self.value.replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The stat at one dose of one calibration round.

    Attributes:
        round: which one, in order.
        dose: the coefficient that was tried.
        value: the stat there, None where the dose was dropped before it had one.
        tokens: how many had been generated.
        complete: False where the dose was dropped early, because these tokens had proved it too strong.
    """

    round: int
    dose: float
    value: float | None
    tokens: int
    complete: bool

    def __post_init__(self) -> None:
        _finite(self, self.dose, self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How the coefficient of one sign was found.

    Attributes:
        sign: +1 or −1.
        stat: what was driven to its target.
        target: the budget, in the stat's unit.
        tolerance: how far from it still counts as reached, in the same unit.
        outcome: `no_dose` is that of what has no dose, such as a prompt.
        coefficient: the calibrated dose; 1 where there is none.
        value: the stat at the coefficient.
        n_prompts: calibration prompts.
        rounds: how many it took.
        low, high: 95 % interval of the coefficient over prompts, None where it is open.
        dose_above, value_above: for a jump, the nearest dose over the target and the stat there.
        pool: tokens that the stat saw at the coefficient, of n_prompts × window.
        slope: d log stat / d log dose at the target. Like pool, None before revision 0003 and where it cannot
            be told.
        evaluations: every dose that was tried.
    """

    sign: Sign
    stat: str
    target: float
    tolerance: float
    outcome: Outcome
    coefficient: float
    value: float | None
    n_prompts: int
    rounds: int
    low: float | None = None
    high: float | None = None
    dose_above: float | None = None
    value_above: float | None = None
    pool: int | None = None
    slope: float | None = None
    evaluations: Sequence[Evaluation] = ()

    def __post_init__(self) -> None:
        _finite(self, self.target, self.tolerance, self.coefficient, self.value)
        _finite(self, self.low, self.high, self.dose_above, self.value_above, self.slope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One number of one metric.

    Attributes:
        sign: +1 or −1.
        metric, quantity: what was measured.
        alpha: multiple of the coefficient.
        prompt: index in the holdout split.
        position: index of a token or fork point, None where the number is the whole text's.
        value: the number, or None with a reason.
        reason: why there is no number.
    """

    sign: Sign
    metric: str
    quantity: str
    alpha: float
    prompt: int
    position: int | None = None
    value: float | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        _finite(self, self.alpha, self.value)
        _scored(self, self.value, self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The mean of one quantity over prompts.

    Attributes:
        sign, metric, quantity, alpha, position: as for `Measurement`.
        n: prompts.
        mean: their mean, or None with a reason.
        low, high: its 95 % interval over prompts; an end that is None is open.
        reason: why there is no mean.
    """

    sign: Sign
    metric: str
    quantity: str
    alpha: float
    n: int
    position: int | None = None
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def __post_init__(self) -> None:
        _finite(self, self.alpha, self.mean, self.low, self.high)
        _scored(self, self.mean, self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One steered text.

    Attributes:
        sign: +1 or −1.
        alpha: multiple of the coefficient.
        prompt: index in the holdout split.
        sampled: whether it was sampled; greedy otherwise.
        text: the text.
        tokens: its tokens, each decoded alone.
        kl: KL(steered ‖ base) at each, in nats.
    """

    sign: Sign
    alpha: float
    prompt: int
    sampled: bool
    text: str
    tokens: Sequence[str]
    kl: Sequence[float]

    def __post_init__(self) -> None:
        _finite(self, self.alpha, *self.kl)


def _finite(row: Any, *values: float | None) -> None:
    for value in values:
        if value is not None and not math.isfinite(value):
            raise ValueError(f"{row} holds {value}; an unscored value is None with a reason")


def _scored(row: Any, value: float | None, reason: str | None) -> None:
    if (value is None) != (reason is not None):
        raise ValueError(f"{row} needs a value or the reason why there is none, and not both")
