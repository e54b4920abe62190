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
MARGIN = 2.0  # a dose is dropped when certain to exceed this × target: the interval needs those just above it
ROUNDS = 6
NARROW = 1e-3  # relative width of a bracket in which a stat that still steps over the target is said to jump


@dataclass(frozen=True)
class Evaluation:
    """One dose tried. value: the stat, or a lower bound of it when not `complete` (dropped as certainly too strong;
    infinite when logits were not finite). tokens: how many the stat was computed from."""

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
        root = crossing(grid, values, self.target)
        return np.clip(np.geomspace(root / 2, root * 2, DOSES), low, high).tolist()  # type: ignore[no-any-return]

    def _evaluate(self, number: int, sign: int, doses: Sequence[float]) -> None:
        doses = sorted(set(doses) - {abs(e.dose) for e, _ in self._tried})
        found = rollout(
            self.lm,
            self.prompts,
            self.steering,
            [sign * d for d in doses],
            self.window,
            too_strong=lambda partial: self.stat(partial, self._base) > MARGIN * self.target + self.tolerance,
        )
        new = [self._evaluation(number, sign * dose, found, i) for i, dose in enumerate(doses)]
        self._tried = sorted([*self._tried, *new], key=lambda pair: abs(pair[0].dose))
        self.report([evaluation for evaluation, _ in new])

    def _evaluation(self, number: int, dose: float, found: Rollout, i: int) -> tuple[Evaluation, TokenValues]:
        values = found.values(i)
        value = self.stat(values, self._base) if found.finite[i] else math.inf
        tokens = int((found.tokens[i] >= 0).sum())
        return Evaluation(number, dose, value, tokens, bool(found.complete[i] and found.finite[i])), values

    def _best(self) -> Evaluation | None:
        """The complete evaluation nearest to the target, if one is within the tolerance."""
        hits = [e for e, _ in self._tried if e.complete and abs(e.value - self.target) <= self.tolerance]
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
        guess = crossing([a, b], [under.value, over.value], self.target)
        inside = np.geomspace(a, b, DOSES + 1)[1:-1].tolist()
        return sorted({*inside, guess} - {a, b})

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
        interval = self._interval(chosen, sign) if outcome in ("converged", "jump") else (None, None)
        above = over if outcome == "jump" else None
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
            rounds=max(e.round for e, _ in self._tried),
            evaluations=tuple(e for e, _ in self._tried),
        )

    def _interval(self, chosen: Evaluation, sign: int) -> tuple[float, float]:
        kept = [(e, v) for e, v in self._tried if e.complete and 0.4 < e.dose / chosen.dose < 2.5]
        doses = [abs(e.dose) for e, _ in kept]

        def stat(i: int, rows: NDArray[np.int64]) -> float:
            values = kept[i][1]
            base = TokenValues(self._base.kl[rows], self._base.nll[rows])
            return self.stat(TokenValues(values.kl[rows], values.nll[rows]), base)

        ends = bootstrap_crossing(doses, stat, len(self.prompts), self.target, self.seed)
        low, high = sorted(sign * end for end in ends)
        return low, high
