"""Finding the dose at which a stat of the rollouts equals its target, many doses per round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

from isokl_bench.bootstrap import crossing, crossing_interval, log_slope
from isokl_bench.engine.diagnose import explain_nonfinite
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import Rollout, Tell, rollout, teacher_forced, unknown_values
from isokl_bench.engine.steering import Steering
from isokl_registry import IsoklError, Stat, TokenValues
from isokl_registry.interval import Ends

SMALLEST, LARGEST = 1e-4, 1e6  # |dose| tried where a method's range has no end of its own
# The cheap look: so many doses of the whole range, then so many between two of those; on so many prompts and tokens.
LOOKS, LOOK_PROMPTS, LOOK_TOKENS = (6, 6), 1, 12
# Doses of the first round, from so far below to so far above where the look saw the root: steered texts drift, and
# what is read along them is higher than what the look reads along the prompts.
FIRST, BELOW, ABOVE = 5, 2.2, 1.2
INSIDE = 1  # doses of a later round inside the bracket, beside the root as it is then thought
OUTSIDE = (1.4, 2.0, 8.0, 64.0)  # of a later round where there is no bracket yet: × or ÷ the last dose tried
STRONG = 2.0  # a dose whose stat exceeds this × target (and the tolerance) is too strong to look at further
MORE = 3  # how often doses are added, after the search, for an interval that ends beyond those tried
ROUNDS = 8
NARROW = 5e-3  # relative width of a bracket in which a stat that still steps over the target is said to jump


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
    there. dose_above, value_above: after a jump, the other side. low, high: 95 % interval of the coefficient over
    prompts, None where it is open and where the target was not crossed. pool: tokens that the stat saw at the coefficient, of
    prompts × window. slope: d log stat / d log dose at the target, None after a jump and where it was not crossed.
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
    pool: int
    slope: float | None
    evaluations: tuple[Evaluation, ...]


Report = Callable[[Sequence[Evaluation]], None]


@dataclass
class Calibrator:
    """Drives `stat` to `target` on greedy rollouts of `prompts` [n] (token ids) over `window` tokens.

    Which doses are tried depends on the numbers alone. `report` is called after every round, `tell` within them with the
    share that may be done: how many rounds there will be is not known, so each is taken for half of what is left."""

    lm: LanguageModel
    steering: Steering
    prompts: Sequence[Sequence[int]]
    window: int
    stat: Stat
    target: float
    tolerance: float
    report: Report = lambda evaluations: None
    tell: Tell = lambda share: None
    _tried: list[_Tried] = field(default_factory=list)

    def run(self, sign: int) -> Calibration:
        """Search among doses of one sign. Raises IsoklError when no dose at all gives finite logits."""
        self._tried.clear()
        self._ceiling = STRONG * self.target + self.tolerance
        self._base = self._base_values()
        low, high = self._range()
        full: list[float] = []
        doses = self._first(sign, low, high)
        for number in range(1, ROUNDS + 1):
            self._evaluate(number, sign, doses, full=full)
            if self._best() is not None:
                break
            doses, full = self._next(low, high)
            if not doses:
                break
        return self._conclude(sign)

    def _base_values(self) -> TokenValues:
        if self.stat.needs_base:
            return rollout(self.lm, self.prompts, self.steering, [0.0], self.window).values(0)
        return unknown_values(len(self.prompts), self.window)

    def _range(self) -> tuple[float, float]:
        low, high = self.steering.method.dose_range
        if not 0 <= low < high:
            name = self.steering.method.label()
            raise IsoklError(
                f"{name} has the dose range ({low:g}, {high:g}): it should be ascending, from 0 or more"
            )
        return max(low, SMALLEST), min(high, LARGEST)

    def _first(self, sign: int, low: float, high: float) -> list[float]:
        """Doses around the order of magnitude that two forward passes find: doses of the whole range, then between two
        of them, on what each of the last tokens of a few prompts would be followed by."""
        prompts = self.prompts[:LOOK_PROMPTS]
        ends = (low, high)
        for count in LOOKS:
            grid = np.geomspace(*ends, count).tolist()
            signed = [sign * dose for dose in grid]
            found, base = teacher_forced(self.lm, prompts, self.steering, signed, LOOK_TOKENS)
            if not self.stat.needs_base:
                base = unknown_values(*base.kl.shape)
            values = np.array([self.stat(values, base) for values in found])
            if not np.isfinite(values).any():
                raise IsoklError(explain_nonfinite(self.lm, prompts, self.steering, signed[0]))
            after = int((values > self.target).argmax()) if (values > self.target).any() else count - 1
            ends = (grid[max(after - 1, 0)], grid[max(after, 1)])
        root = np.clip(crossing(grid, values, self.target), low, high)
        return np.clip(np.geomspace(root / BELOW, root * ABOVE, FIRST), low, high).tolist()  # type: ignore[no-any-return]

    def _evaluate(
        self, number: int, sign: int, doses: Sequence[float], *, full: Sequence[float] = ()
    ) -> None:
        """Roll new doses out, and those in `full` to their end, however strong they are.

        So is the least dose that is too strong, unless one has been before: the bracket's upper side and the end of the
        interval are read from it."""
        known = {abs(tried.evaluation.dose) for tried in self._tried}
        doses = sorted((set(doses) - known) | set(full))
        if not doses:
            return
        settled = any(tried.evaluation.value > self._ceiling for tried in self._tried)
        strong: set[int] = set()

        def too_strong(i: int, partial: TokenValues) -> bool:
            if doses[i] in full or self._stat(partial) <= self._ceiling:
                return False
            strong.add(i)
            return settled or min(strong) < i

        found = rollout(
            self.lm,
            self.prompts,
            self.steering,
            [sign * d for d in doses],
            self.window,
            too_strong=too_strong,
            drafts=self._drafts(doses),
            tell=lambda share: self.tell(1 - 0.5 ** (number - 1) * (1 - share / 2)),
        )
        new = []
        for i, dose in enumerate(doses):
            tried = self._read(number, sign * dose, found, i, dose in full or not settled)
            settled |= tried.evaluation.value > self._ceiling
            new.append(tried)
        kept = [tried for tried in self._tried if abs(tried.evaluation.dose) not in doses]
        self._tried = sorted([*kept, *new], key=lambda tried: abs(tried.evaluation.dose))
        self.report([tried.evaluation for tried in new])

    def _stat(self, values: TokenValues) -> float:
        return float(self.stat(values, self._base))

    def _drafts(self, doses: Sequence[float]) -> NDArray[np.int64] | None:
        """What the nearest dose tried has written, [dose, prompt, token], as far as the neighbours on both sides agree:
        most of it will be written again."""
        if not self._tried:
            return None
        tried = np.array([abs(tried.evaluation.dose) for tried in self._tried])
        drafts = []
        for dose in doses:
            nearest = int(np.abs(np.log(tried / dose)).argmin())
            above = int(np.searchsorted(tried, dose).clip(0, len(tried) - 1))
            below = above if tried[above] == dose else max(above - 1, 0)
            low, high, text = (self._tried[i].tokens for i in (below, above, nearest))
            agree = np.logical_and.accumulate((low == high) | (low < 0) | (high < 0), axis=1)
            drafts.append(np.where(agree, text, -1))
        return np.stack(drafts)

    def _read(self, number: int, dose: float, found: Rollout, i: int, full: bool) -> _Tried:
        values, tokens = found.values(i), found.tokens[i]
        if not found.finite[i]:
            return _Tried(Evaluation(number, dose, math.inf, 0, False), tokens)
        value = self._stat(values)
        if not found.complete[i] or (value > self._ceiling and not full):
            return _Tried(Evaluation(number, dose, self._ceiling, 0, False), tokens)
        tried = Evaluation(number, dose, value, int((tokens >= 0).sum()), True)
        return _Tried(tried, tokens, self.stat.interval(values, self._base))

    def _best(self) -> Evaluation | None:
        """The evaluation nearest to the target, if one is within the tolerance before the stat first exceeds it."""
        values = [tried.evaluation for tried in self._tried]
        above = next((i for i, e in enumerate(values) if e.value > self.target + self.tolerance), len(values))
        hits = [e for e in values[:above] if e.complete and abs(e.value - self.target) <= self.tolerance]
        return min(hits, key=lambda e: (abs(e.value - self.target), abs(e.dose)), default=None)

    def _bracket(self) -> tuple[Evaluation | None, Evaluation | None]:
        """The neighbours between which the stat first passes the target: (largest dose under, smallest over)."""
        under = None
        for tried in self._tried:
            if tried.evaluation.value > self.target:
                return under, tried.evaluation
            under = tried.evaluation
        return under, None

    def _next(self, low: float, high: float) -> tuple[list[float], list[float]]:
        """Doses of the next round, and those that the interval lacks; none when there is nothing left to try."""
        under, over = self._bracket()
        if over is None:
            last = abs(self._tried[-1].evaluation.dose)
            return [] if last >= high else [min(high, last * factor) for factor in OUTSIDE], []
        if under is None:
            first = abs(self._tried[0].evaluation.dose)
            return [] if first <= low else [max(low, first / factor) for factor in OUTSIDE], []
        a, b = abs(under.dose), abs(over.dose)
        if b / a - 1 < NARROW:
            return [], []
        near = over.value < self._ceiling  # else the stat is too steep to be interpolated
        inside = set(np.geomspace(a, b, INSIDE + (2 if near else 3))[1:-1].tolist())
        if near:
            inside.add(crossing([a, b], [under.value, over.value], self.target))
        return sorted(inside - {a, b}), self._beyond(*self._ends(a))

    def _conclude(self, sign: int) -> Calibration:
        best, (under, over) = self._best(), self._bracket()
        if best is not None:
            outcome, chosen = "converged", best
        elif over is None:
            outcome, chosen = "budget_not_reached", self._tried[-1].evaluation
        elif under is None:
            outcome, chosen = "budget_exceeded", over
        else:
            outcome, chosen = "jump", under
        rounds = max(tried.evaluation.round for tried in self._tried)
        interval: tuple[float | None, float | None] = (None, None)
        above = None
        if outcome in ("converged", "jump"):
            interval = self._interval(chosen, sign, rounds + 1)
        if outcome == "jump" and over is not None:
            over = next(t.evaluation for t in self._tried if t.evaluation.dose == over.dose)
            if not over.complete and over.value < math.inf:
                self._evaluate(rounds + 1, sign, [], full=[abs(over.dose)])
            above = next(t.evaluation for t in self._tried if t.evaluation.dose == over.dose)
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
            pool=chosen.tokens,
            slope=self._slope() if outcome == "converged" else None,
            evaluations=tuple(tried.evaluation for tried in self._tried),
        )

    def _slope(self) -> float | None:
        """Of the doses that were run to their end."""
        ended = [tried.evaluation for tried in self._tried if tried.evaluation.complete]
        return log_slope([abs(e.dose) for e in ended], [e.value for e in ended], self.target)

    def _strong(self, beyond: float) -> list[float]:
        """The first dose beyond that was too strong to be run to its end, unless such a dose has been: the coefficient's
        interval should end below it."""
        after = [tried.evaluation for tried in self._tried if abs(tried.evaluation.dose) > beyond]
        after = list(takewhile(lambda e: e.value < math.inf, after))
        if any(e.complete and e.value > self._ceiling for e in after):
            return []
        return [abs(e.dose) for e in after if not e.complete][:1]

    def _interval(self, chosen: Evaluation, sign: int, number: int) -> tuple[float | None, float | None]:
        """From the stat's intervals at all doses run to their end; where it ends beyond them, more are run. An end that
        is not found is None."""
        coefficient = abs(chosen.dose)
        for more in range(MORE + 1):
            low, high = self._ends(coefficient)
            missing = self._beyond(low, high)
            if not missing or more == MORE:
                break
            self._evaluate(number + more, sign, [], full=missing)
        ends = sorted([(sign * low, low > 0), (sign * high, high < math.inf)])
        return tuple(end if found else None for end, found in ends)  # type: ignore[return-value]

    def _beyond(self, low: float, high: float) -> list[float]:
        """Doses to run to their end because an interval ends at 0 or infinity, beyond all that were; none where it is open
        because the stat's own is, which more doses do not mend."""
        least, most = self._range()
        ended = self._ended()
        first, last = (abs(self._tried[end].evaluation.dose) for end in (0, -1))
        doses = []
        if low == 0 and first > least and ended[min(ended)][1] < math.inf:
            doses.append(max(least, first / OUTSIDE[0]))
        if high == math.inf and ended[max(ended)][0] > -math.inf:
            finite = all(t.evaluation.value < math.inf for t in self._tried)
            doses += self._strong(max(ended)) or [min(most, last * OUTSIDE[0])] * (last < most and finite)
        return doses

    def _ends(self, root: float) -> Ends:
        """The interval of a root, one of the doses run to their end, as they give it: 0 or infinity where it ends beyond."""
        ended = self._ended()
        return crossing_interval(list(ended), list(ended.values()), self.target, root)

    def _ended(self) -> dict[float, Ends]:
        """The stat's interval at each dose run to its end."""
        return {abs(tried.evaluation.dose): tried.ends for tried in self._tried if tried.ends is not None}


@dataclass(frozen=True)
class _Tried:
    """An evaluation with the text it was read from, [prompt, token]; of one that is complete, the stat's interval."""

    evaluation: Evaluation
    tokens: NDArray[np.int64]
    ends: Ends | None = None
