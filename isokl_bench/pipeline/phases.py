"""The phases of a run: what a plan needs, what an attempt has stored, and so what is missing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from isokl_bench.pipeline.plan import Plan
from isokl_db import Outcome
from isokl_registry import Metric, PromptMethod


class Kind(StrEnum):
    """What a phase does. GENERATE stores nothing, so a run may have several; GAP is what `isokl gap` adds."""

    FIT = "fit"
    CALIBRATE = "calibrate"
    GENERATE = "generate"
    VALIDATE = "validate"
    METRIC = "metric"
    TRACES = "traces"
    GAP = "gap"


# Rough shares of the time; what metrics need beside rollouts are forks.
WEIGHTS = {
    Kind.FIT: 1.0,
    Kind.CALIBRATE: 4.0,
    Kind.GENERATE: 8.0,
    Kind.VALIDATE: 0.1,
    Kind.METRIC: 0.5,
    Kind.TRACES: 0.1,
    Kind.GAP: 8.0,
}


@dataclass(frozen=True)
class Phase:
    """One step of a run, stored in one transaction.

    Args:
        kind: what it does.
        sign: the direction, 0 for the fit, which serves both.
        metric: label and version, as `metric_key` writes them.
        alphas: at which a metric or texts are stored.
        number: which of several GENERATE phases.
    """

    kind: Kind
    sign: int = 0
    metric: str = ""
    alphas: tuple[float, ...] = ()
    number: int = 0

    def to_text(self) -> str:
        """The name under which the store has it, such as "metric +1 base_nll@1 0,0.5,1"."""
        words = [self.kind.value]
        if self.sign:
            words.append(f"{self.sign:+d}")
        if self.metric:
            words.append(self.metric)
        if self.alphas:
            words.append(alpha_list(self.alphas))
        if self.number:
            words.append(str(self.number))
        return " ".join(words)

    @classmethod
    def parse(cls, text: str) -> Phase:
        """The phase of a stored name, whose alphas have 12 digits.

        Raises:
            ValueError: when it is the name of no phase.
        """
        kind_text, _, rest = text.partition(" ")
        kind = Kind(kind_text)
        if kind is Kind.FIT:
            return cls(kind)
        sign_text, _, rest = rest.partition(" ")
        sign = int(sign_text)
        if kind is Kind.GENERATE:
            return cls(kind, sign, number=int(rest))
        metric, _, alphas = rest.rpartition(" ")  # the label of a metric may hold spaces
        return cls(kind, sign, metric, tuple(map(float, alphas.split(","))) if alphas else ())


Done = Mapping[Phase, Any]  # the data of every phase that is stored


def stored_phases(names: Mapping[str, Any]) -> dict[Phase, Any]:
    """What an attempt has stored, by name. A name that is of no phase here is another version's, which is left to it."""
    known = {name: data for name, data in names.items() if name.partition(" ")[0] in set(Kind)}
    return {Phase.parse(name): data for name, data in known.items()}


def weight(phases: Iterable[Phase]) -> float:
    """How much of the work the phases are."""
    return sum(WEIGHTS[phase.kind] for phase in phases)


def signs(plan: Plan) -> tuple[int, ...]:
    """The directions that the run was asked for."""
    return (1, -1) if plan.config.bidirectional else (1,)


def missing_phases(plan: Plan, done: Done) -> list[Phase]:
    """Phases that the plan needs and `done` lacks, in order."""
    needed = [] if isinstance(plan.method, PromptMethod) else [Phase(Kind.FIT)]
    for sign in signs(plan):
        calibrate = Phase(Kind.CALIBRATE, sign)
        needed.append(calibrate)
        if calibrate not in done or Outcome(done[calibrate]["outcome"]).measured:
            needed += _of_one_sign(plan, sign, done)
    return [phase for phase in needed if phase not in done]


def _of_one_sign(plan: Plan, sign: int, done: Done) -> list[Phase]:
    """What is to be measured of a sign that can be, and the generation that it takes."""
    lacking = [Phase(Kind.VALIDATE, sign)]
    lacking += [metric_phase(metric, sign, alphas) for metric, alphas in missing_metrics(plan, sign, done)]
    if alphas := missing_traces(plan, sign, done):
        lacking.append(Phase(Kind.TRACES, sign, alphas=tuple(alphas)))
    lacking = [phase for phase in lacking if phase not in done]
    return [generate_phase(sign, done), *lacking] if lacking else []


def generate_phase(sign: int, done: Collection[Phase]) -> Phase:
    """What is generated is not stored: what a later phase lacks is generated again, and counted."""
    before = sum(phase.kind is Kind.GENERATE and phase.sign == sign for phase in done)
    return Phase(Kind.GENERATE, sign, number=before + 1)


def metric_key(metric: Metric) -> str:
    """What tells one metric from another, and from an older version of it."""
    return f"{metric.label()}@{metric.version}"


def metric_phase(metric: Metric, sign: int, alphas: Sequence[float]) -> Phase:
    """The phase that stores a metric at some alphas."""
    return Phase(Kind.METRIC, sign, metric_key(metric), tuple(alphas))


def missing_metrics(plan: Plan, sign: int, done: Done) -> list[tuple[Metric, list[float]]]:
    """Metrics that lack something, each with the alphas at which it does."""
    lacking = (
        (metric, _missing(plan.alphas, Kind.METRIC, sign, metric_key(metric), done))
        for metric in plan.metrics
    )
    return [(metric, alphas) for metric, alphas in lacking if alphas]


def missing_traces(plan: Plan, sign: int, done: Done) -> list[float]:
    """Alphas at which no texts are stored yet."""
    return _missing(plan.alphas, Kind.TRACES, sign, "", done)


def _missing(alphas: Sequence[float], kind: Kind, sign: int, metric: str, done: Done) -> list[float]:
    stored = {
        alpha
        for phase, data in done.items()
        if (phase.kind, phase.sign, phase.metric) == (kind, sign, metric)
        for alpha in data["alphas"]
    }
    return [alpha for alpha in alphas if alpha not in stored]


def alpha_list(alphas: Sequence[float]) -> str:
    """0,0.5,1 as the store and people read it."""
    return ",".join(f"{alpha:.12g}" for alpha in alphas)
