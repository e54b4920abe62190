"""Intervals over prompts: the percentile bootstrap of means, and of the calibrated coefficient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
RESAMPLES = 10_000
LEVEL = 95.0


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
    """The 95 % percentile interval of bootstrap values."""
    tail = (100 - LEVEL) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap_mean(values: Array, seed: int = 0) -> Interval | None:
    """Interval of the mean of `values` [n], NaN left out; None when nothing is left."""
    kept = values[~np.isnan(values)]
    if not len(kept):
        return None
    low, high = bounds(kept[resamples(len(kept), seed)].mean(-1))
    return Interval(float(kept.mean()), low, high, len(kept))


def crossing(doses: Sequence[float], values: Sequence[float], target: float) -> float:
    """The dose at which `values` first passes `target`, by interpolation on (log dose, log value).

    doses: ascending, positive. Where the values never pass it, the last dose; where they start above it, the first."""
    for i, value in enumerate(values):
        if value > target:
            if i == 0:
                return doses[0]
            x0, x1 = np.log(doses[i - 1]), np.log(doses[i])
            y0, y1, y = (np.log(max(v, 1e-12)) for v in (values[i - 1], value, target))
            share = (y - y0) / (y1 - y0) if y1 > y0 else 0.0
            return float(np.exp(x0 + share * (x1 - x0)))
    return doses[-1]


def bootstrap_crossing(
    doses: Sequence[float], stat: Callable[[int, NDArray[np.int64]], float], n: int, target: float, seed: int
) -> tuple[float, float]:
    """Interval of the calibrated dose: resample prompts, recompute the stat at each dose, find the crossing again.

    stat(i, prompts): the stat of dose i on the resampled prompts."""
    roots = [
        crossing(doses, [stat(i, chosen) for i in range(len(doses))], target) for chosen in resamples(n, seed, 1000)
    ]
    return bounds(np.array(roots))
