"""What a run stores, one frozen dataclass per table; a field's name is its column's name.

A value that could not be had is None *with a reason*; a value that is there has none. NaN and infinity are
neither and are refused here with `ValueError`, and once more by the tables' own CHECKs.
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

    `value` is None where the dose was dropped before it had one; `complete` is False where it was dropped
    early because the `tokens` already produced proved it too strong.
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

    `low` and `high` are the 95 % interval of `coefficient` over prompts, None where it is open; `value` is the stat at `coefficient`.
    `no_dose` is the outcome of what has no dose: its coefficient is 1. For a jump, `dose_above` and
    `value_above` are the nearest dose over the target and the stat there. `pool` is how many tokens the stat saw at
    `coefficient`, of `n_prompts` × window; `slope` is d log stat / d log dose at the target. Both are None in rows
    of before revision 0003, and where they cannot be told.
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
    """One number of one metric: `prompt` counts in the holdout split, `position` is a token or fork index."""

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
    """The mean of one quantity over `n` prompts, with its 95 % interval over prompts; an end that is None is open."""

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
    """One steered text: its `tokens` as text and the KL of each, in nats; sampled, or greedy."""

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
