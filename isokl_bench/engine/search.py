"""The search for the dose at which a stat meets its target: what to try next, and what was found.

It knows nothing of models: a function reads the stat, at many doses together. Doses here are sizes, all of
them positive, and what is tried follows from the numbers that were read and from nothing else."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

import numpy as np
from numpy.typing import ArrayLike

from isokl_db import Outcome
from isokl_registry.interval import Ends

LOOKS = (6, 6)  # doses of the two looks: so many of the whole range, then so many between two of those
# Doses of the first round, from so far below to so far above where the look saw the root: steered texts
# drift, and what is read along them is higher than what the look reads along the prompts.
FIRST, BELOW, ABOVE = 5, 2.2, 1.2
INSIDE = 1  # doses of a later round inside the bracket, beside the root as it is then thought
OUTSIDE = (1.4, 2.0, 8.0, 64.0)  # of a later round where there is no bracket yet: × or ÷ the last dose tried
STRONG = 2.0  # a dose whose stat exceeds this × target (and the tolerance) is too strong to look at further
MORE = 3  # how often doses are added, after the search, for an interval that ends beyond those tried
ROUNDS = 8
NARROW = 5e-3  # relative width of a bracket in which a stat that still steps over the target is said to jump
APART = 1.1  # doses nearer to a root than by this factor say more of single tokens than of a slope


@dataclass(frozen=True)
class Evaluation:
    """One dose tried. value: the stat over `tokens` tokens. Not `complete`: certain to exceed value (too
    strong), or infinite because logits were not finite; how far such a dose had come is left out, for that
    depends on how rows were batched. ends: the stat's interval, of a complete one."""

    round: int
    dose: float
    value: float
    tokens: int
    complete: bool
    ends: Ends | None = None


@dataclass
class Round:
    """Doses to be read together, ascending, and which of them to their end.

    Those in `full` are, however strong they are. So is the least of those that exceed the ceiling, unless one
    has been in an earlier round (`settled`): the bracket's upper side and the end of the interval are read
    from it."""

    number: int
    doses: list[float]
    full: Collection[float]
    ceiling: float
    settled: bool
    _strong: set[int] = field(default_factory=set)

    def may_drop(self, i: int, least: float) -> bool:
        """Whether doses[i] need not be read on, now that its stat is known to be `least` or more."""
        if self.doses[i] in self.full or least <= self.ceiling:
            return False
        self._strong.add(i)
        return self.settled or min(self._strong) < i

    def too_strong(self, dose: float) -> Evaluation:
        """What is known of a dose that was dropped."""
        return Evaluation(self.number, dose, self.ceiling, 0, False)

    def broken(self, dose: float) -> Evaluation:
        """What is known of a dose at which logits were not finite."""
        return Evaluation(self.number, dose, math.inf, 0, False)

    def settle(self, found: Sequence[Evaluation]) -> list[Evaluation]:
        """Count as dropped every dose that could have been: its batch may have brought it to its end."""
        settled, counted = self.settled, []
        for one in found:
            strong = one.complete and one.value > self.ceiling
            if strong and settled and one.dose not in self.full:
                counted.append(self.too_strong(one.dose))
            else:
                counted.append(one)
                settled |= one.value > self.ceiling
        return counted


@dataclass(frozen=True)
class Found:
    """What a search ends with, doses and interval as sizes. chosen: the evaluation at the coefficient. above:
    after a jump, that of its other side. low, high: of the coefficient; 0 and infinity where the interval is
    open. slope: d log stat / d log dose, None after a jump. Neither interval nor slope where the target was
    not crossed."""

    outcome: Outcome
    chosen: Evaluation
    above: Evaluation | None
    low: float
    high: float
    rounds: int
    slope: float | None


@dataclass
class Search:
    """Of doses in [least, most] the one at which a stat first meets the target, to within the tolerance.

    The stat of greedy text is a step function of the dose, so its root may be a jump; then the largest dose
    at or under the target is the answer.

    Args:
        target, tolerance: of the stat, in its unit.
        least, most: the range of doses.
        read: gives an evaluation for each dose of a round, in their order.
        report: called with what every round gave.
    """

    target: float
    tolerance: float
    least: float
    most: float
    read: Callable[[Round], Sequence[Evaluation]]
    report: Callable[[Sequence[Evaluation]], None] = lambda evaluations: None
    tried: list[Evaluation] = field(default_factory=list)  # by dose

    def run(self, doses: Sequence[float]) -> Found:
        """Search from these doses on, `first_doses` for example."""
        full: list[float] = []
        for number in range(1, ROUNDS + 1):
            self._try(number, doses, full)
            if self.best() is not None:
                break
            doses, full = self.next()
            if not doses:
                break
        return self._conclude()

    @property
    def ceiling(self) -> float:
        return STRONG * self.target + self.tolerance

    def _try(self, number: int, doses: Sequence[float], full: Sequence[float]) -> None:
        """Read doses that are new, and those in `full` (again, it may be) to their end."""
        known = {one.dose for one in self.tried}
        doses = sorted((set(doses) - known) | set(full))
        if not doses:
            return
        settled = any(one.value > self.ceiling for one in self.tried)
        this = Round(number, doses, full, self.ceiling, settled)
        new = this.settle(self.read(this))
        others = [one for one in self.tried if one.dose not in doses]
        self.tried = sorted([*others, *new], key=lambda one: one.dose)
        self.report(new)

    def best(self) -> Evaluation | None:
        """The evaluation nearest to the target, among those within the tolerance before it is exceeded."""
        within = list(takewhile(lambda one: one.value <= self.target + self.tolerance, self.tried))
        hits = [one for one in within if one.complete and abs(one.value - self.target) <= self.tolerance]
        return min(hits, key=lambda one: (abs(one.value - self.target), one.dose), default=None)

    def bracket(self) -> tuple[Evaluation | None, Evaluation | None]:
        """Where the stat first passes the target: (the largest dose under it, the smallest over it)."""
        under = None
        for one in self.tried:
            if one.value > self.target:
                return under, one
            under = one
        return under, None

    def next(self) -> tuple[list[float], list[float]]:
        """Doses of the next round, and those that the interval lacks; none when nothing is left to try."""
        under, over = self.bracket()
        if over is None:
            last = self.tried[-1].dose
            return [] if last >= self.most else [min(self.most, last * factor) for factor in OUTSIDE], []
        if under is None:
            first = self.tried[0].dose
            return [] if first <= self.least else [max(self.least, first / factor) for factor in OUTSIDE], []
        a, b = under.dose, over.dose
        if b / a - 1 < NARROW:
            return [], []
        near = over.value < self.ceiling  # else the stat is too steep to be interpolated
        inside = set(np.geomspace(a, b, INSIDE + (2 if near else 3))[1:-1].tolist())
        if near:
            inside.add(crossing([a, b], [under.value, over.value], self.target))
        return sorted(inside - {a, b}), self._beyond(*self.ends(a))

    def _conclude(self) -> Found:
        rounds = max(one.round for one in self.tried)
        over = self.bracket()[1]
        outcome, chosen = self._outcome()
        low, high, above = 0.0, math.inf, None
        if outcome in (Outcome.CONVERGED, Outcome.JUMP):
            low, high = self._interval(chosen.dose, rounds + 1)
        if outcome == Outcome.JUMP and over is not None:
            above = self._to_its_end(over.dose, rounds + 1)
        slope = self._slope() if outcome == Outcome.CONVERGED else None
        return Found(outcome, chosen, above, low, high, rounds, slope)

    def _outcome(self) -> tuple[Outcome, Evaluation]:
        """How the search has ended, and the evaluation that is its answer."""
        best, (under, over) = self.best(), self.bracket()
        if best is not None:
            return Outcome.CONVERGED, best
        if over is None:
            return Outcome.BUDGET_NOT_REACHED, self.tried[-1]
        if under is None:
            return Outcome.BUDGET_EXCEEDED, over
        return Outcome.JUMP, under

    def _to_its_end(self, dose: float, number: int) -> Evaluation:
        """A dose that was tried, now read to its end if it was dropped."""
        found = self._at(dose)
        if not found.complete and found.value < math.inf:
            self._try(number, [], [dose])
        return self._at(dose)

    def _at(self, dose: float) -> Evaluation:
        return next(one for one in self.tried if one.dose == dose)

    def _slope(self) -> float | None:
        """Of the doses that were read to their end."""
        ended = [one for one in self.tried if one.complete]
        return log_slope([one.dose for one in ended], [one.value for one in ended], self.target)

    def _interval(self, root: float, number: int) -> Ends:
        """Of the coefficient, from the stat's intervals at all doses read to their end; where it ends beyond
        them, more are read."""
        for more in range(MORE + 1):
            low, high = self.ends(root)
            missing = self._beyond(low, high)
            if not missing or more == MORE:
                break
            self._try(number + more, [], missing)
        return low, high

    def _beyond(self, low: float, high: float) -> list[float]:
        """Doses to read to their end because an interval ends at 0 or infinity, beyond all that were; none
        where it is open because the stat's own is, which more doses do not mend."""
        ended = self._ended()
        first, last = self.tried[0].dose, self.tried[-1].dose
        doses = []
        if low == 0 and first > self.least and ended[min(ended)][1] < math.inf:
            doses.append(max(self.least, first / OUTSIDE[0]))
        if high == math.inf and ended[max(ended)][0] > -math.inf:
            finite = all(one.value < math.inf for one in self.tried)
            further = [min(self.most, last * OUTSIDE[0])] if last < self.most and finite else []
            # Before any further one the first that was dropped, unless one before it has broken.
            beyond = (one for one in self.tried if one.dose > max(ended))
            dropped = [one.dose for one in takewhile(lambda one: one.value < math.inf, beyond)]
            doses += dropped[:1] or further
        return doses

    def ends(self, root: float) -> Ends:
        """The interval of a root, a dose read to its end, from all such doses: 0 or infinity beyond them."""
        ended = self._ended()
        return crossing_interval(list(ended), list(ended.values()), self.target, root)

    def _ended(self) -> dict[float, Ends]:
        """The stat's interval at each dose read to its end."""
        return {one.dose: one.ends for one in self.tried if one.ends is not None}


def first_doses(
    look: Callable[[Sequence[float]], Sequence[float]], target: float, least: float, most: float
) -> list[float]:
    """Doses around the order of magnitude that two looks find: over the whole range, then between two.

    Args:
        look: the stat at some doses, roughly; infinite where logits are not finite.
        target: of the stat.
        least, most: the range of doses.
    """
    ends = (least, most)
    for count in LOOKS:
        grid = np.geomspace(*ends, count).tolist()
        values = np.asarray(look(grid), dtype=float)
        after = int((values > target).argmax()) if (values > target).any() else count - 1
        ends = (grid[max(after - 1, 0)], grid[max(after, 1)])
    root = np.clip(crossing(grid, values, target), least, most)
    doses: list[float] = np.clip(np.geomspace(root / BELOW, root * ABOVE, FIRST), least, most).tolist()
    return doses


def crossing(doses: Sequence[float], values: ArrayLike, target: float) -> float:
    """The dose at which a stat first passes its target: interpolated on (log dose, log value), or on the
    value itself from one that is clearly negative.

    Args:
        doses: ascending, positive.
        values: [dose], the stat at each.
        target: what is passed.

    Returns:
        The dose; infinity where the values never pass the target, 0 where they start above it.
    """
    y = np.asarray(values, dtype=float)
    after = int((y > target).argmax())
    if not y[after] > target:
        return math.inf
    if after == 0:
        return 0.0
    (x0, x1), (y0, y1) = np.log(doses[after - 1 : after + 1]), y[after - 1 : after + 1]
    if y0 == -math.inf:
        return doses[after]
    if target > 0 and y0 >= -1e-3 * target and y1 < math.inf:
        least = 1e-6 * target  # less may be rounding, and its logarithm anything
        y0, y1, target = np.log([max(y0, least), y1, target])
    return float(np.exp(x0 + (target - y0) / (y1 - y0) * (x1 - x0)))


def crossing_interval(doses: Sequence[float], ends: Sequence[Ends], target: float, root: float) -> Ends:
    """The doses around a root that prompts do not tell from it: there the stat's interval holds the target.

    Args:
        doses: ascending, positive, not all above the root.
        ends: of the stat's interval at each.
        target: what they should hold.
        root: the dose whose interval it is.

    Returns:
        The ends, with the root in between; 0 or infinity where the interval goes on beyond the doses, or
        where an end of the stat's is open as far as they go.
    """
    here = bisect_right(doses, root) - 1
    lows, highs = zip(*ends, strict=True)
    under = max((i for i in range(here + 1) if highs[i] <= target), default=None)
    low = 0.0 if under is None else crossing(doses[under : here + 2], highs[under : here + 2], target)
    high = crossing(doses[here:], lows[here:], target)
    return min(low, root), max(high, root)


def log_slope(doses: Sequence[float], values: Sequence[float], target: float) -> float | None:
    """d log value / d log dose where a stat first passes its target: the line of least squares through the
    values from the nearest dose that is 10 % under that root to the nearest that is 10 % above it, or as far
    as there are any.

    Args:
        doses: ascending, positive.
        values: [dose], the stat at each.
        target: what is passed.

    Returns:
        The slope; None where the values do not pass the target, or where none before is positive.
    """
    positive = [(dose, value) for dose, value in zip(doses, values, strict=True) if 0 < value < math.inf]
    if not positive:
        return None
    x, y = np.array(positive).T
    root = crossing(x.tolist(), y, target)
    if not 0 < root < math.inf:
        return None
    first = np.searchsorted(x, root / APART, side="right") - 1
    last = np.searchsorted(x, root * APART)
    x, y = (np.log(some[max(first, 0) : last + 1]) for some in (x, y))
    x = x - x.mean()
    return float(x @ y / (x @ x))
