"""What a metric is: something measured on holdout prompts at each alpha, from rollouts that all metrics share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

from isokl_registry.component import Component

if TYPE_CHECKING:
    from numpy import bool_
    from numpy.typing import NDArray

    from isokl_registry.token_values import Array


REPLY_END = -1
"""As a fork point: where the reply ends by itself, or the last of the other points where it goes on beyond that."""

Role = Literal["headline", "effect", "side effect", "diagnostic"]
Place = Literal["summary", "table"]


@dataclass(frozen=True)
class Count:
    """A share that is written as a count of prompts: what they are at alpha 0, and what some of them become.

    `Count("flip_to_positive", "on −", "→ +")` reads "20 on −" at alpha 0, and "12/20 → +" further on.
    """

    quantity: str
    before: str
    after: str


@dataclass(frozen=True)
class Column:
    """How reports show a quantity of one number per prompt. All but the quantity may be left out.

    Args:
        quantity: as in its Measurement.
        title: what tables call it; without one, the quantity's own words.
        short: a shorter title, for the terminal.
        unit: in the singular: "nat".
        digits: decimals; None for three significant digits.
        signed: its 0 means that nothing has changed: it is written with its sign, and marked where its interval
            excludes 0.
        role: "headline": the effect by which methods are ranked. "effect", "side effect": beside it in rankings, in the
            leaderboard and (effects) in Figure 2. "diagnostic": helps to read the others. Effects are changes,
            positive towards the behavior's positive side.
        larger_is_better: None where neither is.
        base: what the alpha-0 row of a run's summary shows in this column: the quantity of which this is the change.
        later: of the headline, the quantity that is the same effect after the reply.
        when: where an effect is read: "at the start of the reply".
        counts: written by the summary of a run in place of the mean.
        places: the summary of a run, and Table 1.
        note: one clause under the table: how the quantity is defined.
    """

    quantity: str
    title: str = ""
    short: str = ""
    unit: str = ""
    digits: int | None = 2
    signed: bool = False
    role: Role = "diagnostic"
    larger_is_better: bool | None = None
    base: Column | None = None
    later: str = ""
    when: str = ""
    counts: tuple[Count, ...] = ()
    places: tuple[Place, ...] = ("summary", "table")
    note: str = ""

    @property
    def heading(self) -> str:
        """The title, or the quantity's own words."""
        return self.title or self.quantity.replace("_", " ")


@dataclass(frozen=True)
class Curve:
    """How Figure 1 draws a quantity that has positions.

    Args:
        quantity: as in its Measurement.
        title: of the vertical axis; without one, the quantity's own words.
        unit: in the singular: "nat".
        along: what a position is.
        ends: of the vertical axis; None for as far as the numbers go.
        alive: the value under which a rollout counts as dead: `isokl report survival` follows it.
        is_shift: this is KL(steered ‖ base) in nats at each token: the upper panels of Figure 1, and what Figure 2 sets
            effects against. Other curves are lower panels.
        note: one clause under the figure's title: what is drawn.
    """

    quantity: str
    title: str = ""
    unit: str = ""
    along: str = "generated token"
    ends: tuple[float, float] | None = None
    alive: float | None = None
    is_shift: bool = False
    note: str = ""

    @property
    def heading(self) -> str:
        """The title, or the quantity's own words."""
        return self.title or self.quantity.replace("_", " ")


@dataclass(frozen=True)
class Measurement:
    """One quantity at each alpha, holdout prompt and (where there are any) position.

    Args:
        quantity: its name.
        values: [alpha, prompt] or [alpha, prompt, position]; NaN is unscored.
        positions: the token or fork index of the last axis.
        reason: why there is NaN.
        share: each value is 0 or 1, so that the mean is a share of prompts, and has the interval of one.
    """

    quantity: str
    values: Array
    positions: Sequence[int] | None = None
    reason: str = ""
    share: bool = False


@dataclass(frozen=True)
class RolloutValues:
    """Greedy rollouts of the holdout prompts; each array [alpha, prompt, token], NaN where a row has ended.

    kl: KL(steered ‖ base). nll: −log p_base of the token. entropy: of the steered next-token distribution. In nats.
    """

    kl: Array
    nll: Array
    entropy: Array


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
    def alphas(self) -> Sequence[float]:
        """Multiples of the calibrated dose."""
        ...

    @property
    def first_is_target(self) -> NDArray[bool_]:
        """[prompt]: whether the positive persona's answer is the first answer word."""
        ...

    def rollout(self, window: int) -> RolloutValues:
        """The first `window` tokens of the greedy text, no more than the metric's `tokens` says."""
        ...

    def forks(self, points: Sequence[int]) -> ForkValues:
        """What is answered at `points`: numbers of tokens after which the reply is cut, and REPLY_END."""
        ...


class Metric(Component, ABC):
    """An effect or a side effect. Subclass it as a frozen dataclass whose fields are the parameters:

        @dataclass(frozen=True)
        class Entropy(Metric):
            '''Entropy of the next token, in nats.'''
            name: ClassVar[str] = "entropy"
            columns = (Column("entropy_change", "Δ entropy", unit="nat", signed=True, role="side effect"),)
            def measure(self, session): ...

    `columns` and `curves` say how reports show it. A metric that declares no columns is shown all the same: each
    quantity of one number per prompt as a plain column. `tokens` is how long a rollout it will ask for, so that one
    generation can serve all metrics.
    """

    kind: ClassVar[str] = "metric"
    columns: ClassVar[tuple[Column, ...]] = ()
    curves: ClassVar[tuple[Curve, ...]] = ()

    @property
    def tokens(self) -> int:
        """Longest rollout that `measure` will ask for."""
        return 0

    @abstractmethod
    def measure(self, session: Session) -> Iterable[Measurement]:
        """What the metric measures.

        Args:
            session: hands out rollouts and forks, at all alphas together.

        Returns:
            Named quantities; every number at alpha 0 is the unsteered model's.
        """
