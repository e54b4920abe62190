"""Finding the dose at which a stat of the rollouts equals its target, many doses per round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isokl_bench.engine.diagnose import explain_nonfinite
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import Rollout, rollout
from isokl_bench.engine.steering import Steering
from isokl_bench.statistics import bootstrap_crossing, crossing
from isokl_registry import IsoklError, Stat, TokenValues

SMALLEST, LARGEST = 1e-4, 1e6  # |dose| tried where a method's range has no end of its own
PROBE = 2.0  # ratio of neighbouring doses in the first, cheap look
PROBE_PROMPTS, PROBE_TOKENS = 4, 4
DOSES = 8  # per round
STRONG = 2.0  # a dose whose stat exceeds this × target (and the tolerance) is too strong to look at further
SPREAD = (0.7, 0.8, 0.9, 1.1, 1.25, 1.5)  # × the coefficient: doses run in full for its interval
ROUNDS = 6
NARROW = 1e-3  # relative width of a bracket in which a stat that still steps over the target is said to jump


@dataclass(frozen=True)
class Evaluation:
    """One dose tried. value: the stat over `tokens` tokens. Not `complete`: certain to exceed value (too strong), or
    infinite because logits were not finite; how far such a dose had come is left out, for that depends on packing."""

    round: int
    dose: float
    value: float
    tokens: int
    complete: bool


@dataclass(frozen=True)
class Calibration:
    """The result of one search, with everything that was tried.

    outcome: converged, jump, budget_not_reached or budget_exceeded. coefficient: the signed dose. value: the stat
    there. dose_above, value_above: after a jump, the other side. low, high: 95 % bootstrap interval of the
    coefficient over prompts, None where the target was not crossed.
    """

    sign: int
    outcome: str
    coefficient: float
    value: float
    target: float
    tolerance: float
    low: float | None
    high: float | None
    dose_above: float | None
    value_above: float | None
    rounds: int
    evaluations: tuple[Evaluation, ...]


Report = Callable[[Sequence[Evaluation]], None]


@dataclass
class Calibrator:
    """Drives `stat` to `target` on greedy rollouts of `prompts` [n] (token ids) over `window` tokens.

    Which doses are tried depends on the numbers alone. `report` is called after every round."""

    lm: LanguageModel
    steering: Steering
    prompts: Sequence[Sequence[int]]
    window: int
    stat: Stat
    target: float
    tolerance: float
    seed: int
    report: Report = lambda evaluations: None
    _tried: list[tuple[Evaluation, TokenValues]] = field(default_factory=list)

    def run(self, sign: int) -> Calibration:
        """Search among doses of one sign. Raises IsoklError when no dose at all gives finite logits."""
        self._tried.clear()
        self._ceiling = STRONG * self.target + self.tolerance
        self._base = rollout(self.lm, self.prompts, self.steering, [0.0], self.window).values(0)
        low, high = self._range()
        doses = self._probe(sign, low, high)
        for number in range(1, ROUNDS + 1):
            self._evaluate(number, sign, doses)
            if self._best() is not None:
                break
            doses = self._next(low, high)
            if not doses:
                break
        return self._conclude(sign)

    def _range(self) -> tuple[float, float]:
        low, high = self.steering.method.dose_range
        return max(low, SMALLEST), min(high, LARGEST)

    def _probe(self, sign: int, low: float, high: float) -> list[float]:
        """A wide grid on a few tokens of a few prompts finds the order of magnitude; returns the first real grid."""
        count = math.ceil(math.log(high / low, PROBE)) + 1
        grid = np.geomspace(low, high, max(count, 2)).tolist()
        prompts = self.prompts[:PROBE_PROMPTS]
        base = TokenValues(
            self._base.kl[:PROBE_PROMPTS, :PROBE_TOKENS], self._base.nll[:PROBE_PROMPTS, :PROBE_TOKENS]
        )
        found = rollout(self.lm, prompts, self.steering, [sign * d for d in grid], PROBE_TOKENS)
        if not found.finite.any():
            raise IsoklError(explain_nonfinite(self.lm, prompts, self.steering, sign * grid[0]))
        values = [self.stat(found.values(i), base) if found.finite[i] else math.inf for i in range(len(grid))]
        root = float(np.clip(crossing(grid, values, self.target), low, high))
        return np.clip(np.geomspace(root / 2, root * 2, DOSES), low, high).tolist()  # type: ignore[no-any-return]

    def _evaluate(self, number: int, sign: int, doses: Sequence[float], *, drop: bool = True) -> None:
        known = {abs(e.dose) for e, _ in self._tried if drop or e.complete}
        doses = sorted(set(doses) - known)
        found = rollout(
            self.lm,
            self.prompts,
            self.steering,
            [sign * d for d in doses],
            self.window,
            too_strong=(lambda partial: self.stat(partial, self._base) > self._ceiling) if drop else None,
        )
        new = [self._evaluation(number, sign * dose, found, i, not drop) for i, dose in enumerate(doses)]
        again = {evaluation.dose for evaluation, _ in new}
        kept = [pair for pair in self._tried if pair[0].dose not in again]
        self._tried = sorted([*kept, *new], key=lambda pair: abs(pair[0].dose))
        self.report([evaluation for evaluation, _ in new])

    def _evaluation(
        self, number: int, dose: float, found: Rollout, i: int, keep: bool
    ) -> tuple[Evaluation, TokenValues]:
        values = found.values(i)
        if not found.finite[i]:
            return Evaluation(number, dose, math.inf, 0, False), values
        value = self.stat(values, self._base)
        if not found.complete[i] or (value > self._ceiling and not keep):
            return Evaluation(number, dose, self._ceiling, 0, False), values
        return Evaluation(number, dose, value, int((found.tokens[i] >= 0).sum()), True), values

    def _best(self) -> Evaluation | None:
        """The evaluation nearest to the target, if one is within the tolerance before the stat first exceeds it."""
        values = [e for e, _ in self._tried]
        above = next((i for i, e in enumerate(values) if e.value > self.target + self.tolerance), len(values))
        hits = [e for e in values[:above] if abs(e.value - self.target) <= self.tolerance]
        return min(hits, key=lambda e: (abs(e.value - self.target), abs(e.dose)), default=None)

    def _bracket(self) -> tuple[Evaluation | None, Evaluation | None]:
        """The neighbours between which the stat first passes the target: (largest dose under, smallest over)."""
        under = None
        for evaluation, _ in self._tried:
            if evaluation.value > self.target:
                return under, evaluation
            under = evaluation
        return under, None

    def _next(self, low: float, high: float) -> list[float]:
        """Doses of the next round; none when there is nothing left to try."""
        under, over = self._bracket()
        if over is None:
            last = abs(self._tried[-1][0].dose)
            return (
                [] if last >= high else np.geomspace(last, min(high, last * 2**DOSES), DOSES + 1)[1:].tolist()
            )
        if under is None:
            first = abs(self._tried[0][0].dose)
            return (
                []
                if first <= low
                else np.geomspace(max(low, first / 2**DOSES), first, DOSES + 1)[:-1].tolist()
            )
        a, b = abs(under.dose), abs(over.dose)
        if b / a - 1 < NARROW:
            return []
        inside = set(np.geomspace(a, b, DOSES + 1)[1:-1].tolist())
        if over.complete:
            inside.add(crossing([a, b], [under.value, over.value], self.target))
        return sorted(inside - {a, b})

    def _conclude(self, sign: int) -> Calibration:
        best, (under, over) = self._best(), self._bracket()
        if best is not None:
            outcome, chosen = "converged", best
        elif over is None:
            outcome, chosen = "budget_not_reached", self._tried[-1][0]
        elif under is None:
            outcome, chosen = "budget_exceeded", over
        else:
            outcome, chosen = "jump", under
        rounds = max(e.round for e, _ in self._tried)
        interval: tuple[float | None, float | None] = (None, None)
        above = None
        if outcome in ("converged", "jump"):
            self._surround(chosen, over if outcome == "jump" else None, sign, rounds + 1)
            interval = self._interval(chosen, sign)
        if outcome == "jump" and over is not None:
            above = next(e for e, _ in self._tried if e.dose == over.dose)
        return Calibration(
            sign=sign,
            outcome=outcome,
            coefficient=chosen.dose,
            value=chosen.value,
            target=self.target,
            tolerance=self.tolerance,
            low=interval[0],
            high=interval[1],
            dose_above=above.dose if above else None,
            value_above=above.value if above else None,
            rounds=rounds,
            evaluations=tuple(e for e, _ in self._tried),
        )

    def _surround(self, chosen: Evaluation, over: Evaluation | None, sign: int, number: int) -> None:
        """Run doses around the coefficient in full, for its interval; and a jump's other side, for the record."""
        low, high = self._range()
        near = [factor * abs(chosen.dose) for factor in SPREAD] + ([abs(over.dose)] if over else [])
        self._evaluate(number, sign, [dose for dose in near if low <= dose <= high], drop=False)

    def _interval(self, chosen: Evaluation, sign: int) -> tuple[float | None, float | None]:
        """Bootstrap of the crossing over the doses around the coefficient. An end that lies beyond them is None. The
        coefficient is always inside: a jump's crossing lies between two doses, the coefficient on one."""
        kept = [
            (e, v) for e, v in self._tried if e.complete and SPREAD[0] <= e.dose / chosen.dose <= SPREAD[-1]
        ]
        doses = [abs(e.dose) for e, _ in kept]

        def stat(i: int, rows: NDArray[np.int64]) -> float:
            values = kept[i][1]
            base = TokenValues(self._base.kl[rows], self._base.nll[rows])
            return self.stat(TokenValues(values.kl[rows], values.nll[rows]), base)

        first, last = bootstrap_crossing(doses, stat, len(self.prompts), self.target, self.seed)
        ends = (min(first, abs(chosen.dose)), max(last, abs(chosen.dose)))
        signed = sorted(sign * end for end in ends)
        return tuple(end if 0 < abs(end) < math.inf else None for end in signed)  # type: ignore[return-value]
