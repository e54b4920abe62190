"""Means with their intervals over prompts, and where a stat of the dose meets its target."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from isokl_registry import interval

Array = NDArray[np.float64]
APART = 1.1  # doses nearer to a root than by this factor say more of single tokens than of a slope


@dataclass(frozen=True)
class Interval:
    """A mean over n prompts with its 95 % interval; None is an end that is open."""

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_intervals(values: Array, seed: int = 0, *, share: bool = False) -> list[Interval | None]:
    """Of the mean of each row of `values` [row, prompt], NaN left out; None for a row with nothing left.

    share: the values are 0 and 1, and Wilson's interval is theirs; that of other means is the studentised bootstrap's,
    with the same resamples for all rows that have as many numbers."""
    ordered = np.sort(values, axis=1)  # NaN last
    counts = (~np.isnan(ordered)).sum(1)
    found: list[Interval | None] = [None] * len(values)
    for n in set(counts[counts > 0].tolist()):
        (rows,) = np.nonzero(counts == n)
        some = ordered[rows, :n]
        ends = interval.shares(some.sum(1), n) if share else interval.means(some, seed)
        for row, mean, low, high in zip(rows.tolist(), some.mean(1).tolist(), *ends, strict=True):
            found[row] = Interval(mean, closed(low), closed(high), n)
    return found


def closed(end: float) -> float | None:
    """The end of an interval as it is stored: None where it is open."""
    return float(end) if math.isfinite(end) else None


def crossing(doses: Sequence[float], values: ArrayLike, target: float) -> float:
    """The dose at which `values` [dose] first pass `target`: interpolated on (log dose, log value), or on the value itself
    from one that is clearly negative.

    doses: ascending, positive. Where the values never pass it, infinity; where they start above it, 0."""
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


def crossing_interval(
    doses: Sequence[float], ends: Sequence[interval.Ends], target: float, root: float
) -> interval.Ends:
    """The doses around `root` at which the interval of the stat holds the target: the prompts do not tell them from it.

    doses: ascending, positive, not all above the root; ends: of the stat's interval at each. Always with the root in it.
    0 or infinity where it goes on beyond the doses, or where an end of the stat is open as far as they go."""
    here = bisect_right(doses, root) - 1
    lows, highs = zip(*ends, strict=True)
    under = max((i for i in range(here + 1) if highs[i] <= target), default=None)
    low = 0.0 if under is None else crossing(doses[under : here + 2], highs[under : here + 2], target)
    high = crossing(doses[here:], lows[here:], target)
    return min(low, root), max(high, root)


def log_slope(doses: Sequence[float], values: Sequence[float], target: float) -> float | None:
    """d log value / d log dose where the values first pass `target`: the line of least squares through the values from
    the nearest dose that is 10 % under that root to the nearest that is 10 % above it, or as far as there are any.

    doses: ascending, positive. None where the values do not pass the target, or where none before is positive."""
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
