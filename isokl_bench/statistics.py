"""Intervals over prompts: the percentile bootstrap of means, and of the calibrated coefficient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
RESAMPLES = 10_000
LEVEL = 95.0
TOGETHER = 256  # means whose resamples are held in memory at a time


@dataclass(frozen=True)
class Interval:
    """A mean over n prompts with its 95 % percentile bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


def resamples(n: int, seed: int, count: int = RESAMPLES) -> NDArray[np.int64]:
    """[count, n] indices drawn with replacement."""
    return np.random.default_rng(seed).integers(0, n, size=(count, n))


def bounds(values: Array) -> tuple[float, float]:
    """The 95 % percentile interval of bootstrap values (which may be infinite: no interpolation)."""
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail], method="nearest")
    return float(low), float(high)


def bootstrap_means(values: Array, seed: int = 0) -> list[Interval | None]:
    """Interval of the mean of each row of `values` [rows, n], NaN left out; None for a row with nothing left.

    The rows share their resamples, so intervals of the same prompts are comparable; a resample in which a row has
    no number at all is left out for that row."""
    n = values.shape[1]
    weights = np.zeros((RESAMPLES, n))
    np.add.at(weights, (np.arange(RESAMPLES)[:, None], resamples(n, seed)), 1.0)
    found: list[Interval | None] = []
    for start in range(0, len(values), TOGETHER):
        some = values[start : start + TOGETHER]
        scored = ~np.isnan(some)
        sums, counts = np.where(scored, some, 0.0) @ weights.T, scored @ weights.T
        for row, kept, total, count in zip(some, scored, sums, counts, strict=True):
            drawn, number = count > 0, int(kept.sum())
            interval = bounds(total[drawn] / count[drawn]) if number else (0.0, 0.0)
            found.append(Interval(float(row[kept].mean()), *interval, number) if number else None)
    return found


def bootstrap_stat(stat: Callable[[NDArray[np.int64]], Array], n: int, seed: int) -> Array:
    """Any number of a set of n prompts on resampled sets of them, [1000]. stat(prompts [k, n]): the numbers [k]."""
    return np.concatenate([stat(chosen) for chosen in np.split(resamples(n, seed, 1000), 20)])


def crossing(doses: Sequence[float], values: ArrayLike, target: float) -> Array:
    """The doses at which the columns of `values` [dose, ...] first pass `target`: interpolated on (log dose, log value),
    or on the value itself from one that is clearly negative.

    doses: ascending, positive. Where the values never pass it, infinity; where they start above it, 0."""
    values = np.asarray(values, dtype=float)
    above = values > target
    after = above.argmax(0)
    first = np.minimum(np.maximum(after, 1), len(values) - 1)
    x0, x1 = np.log(doses)[first - 1], np.log(doses)[first]
    y0, y1 = (np.take_along_axis(values, index[None], 0)[0] for index in (first - 1, first))
    with np.errstate(all="ignore"):  # columns that never pass the target give nonsense, replaced below
        least = 1e-6 * target  # less may be rounding, and its logarithm anything
        logs = (y0 >= -1e-3 * target) & (y1 < np.inf) & (target > 0)
        y0 = np.where(logs, np.maximum(y0, least), y0)
        y0, y1, y = (np.where(logs, np.log(value), value) for value in (y0, y1, np.float64(target)))
        share = np.where(y1 > y0, (y - y0) / (y1 - y0), 0.0)
        found = np.exp(x0 + share * (x1 - x0))
    return np.where(above.any(0), np.where(after == 0, 0.0, found), np.inf)


APART = 1.1  # doses nearer to a root than by this factor say more of single tokens than of a slope


def log_slope(doses: Sequence[float], values: Sequence[float], target: float) -> float | None:
    """d log value / d log dose where the values first pass `target`: the line of least squares through the values from
    the nearest dose that is 10 % under that root to the nearest that is 10 % above it, or as far as there are any.

    doses: ascending, positive. None where the values do not pass the target, or where none before is positive."""
    positive = [(dose, value) for dose, value in zip(doses, values, strict=True) if 0 < value < math.inf]
    if not positive:
        return None
    x, y = np.array(positive).T
    root = float(crossing(x.tolist(), y, target))
    if not 0 < root < math.inf:
        return None
    first = np.searchsorted(x, root / APART, side="right") - 1
    last = np.searchsorted(x, root * APART)
    x, y = (np.log(some[max(first, 0) : last + 1]) for some in (x, y))
    x = x - x.mean()
    return float(x @ y / (x @ x))
