"""Means with their 95 % intervals over prompts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isokl_registry import interval

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean over n prompts with its 95 % interval; None is an end that is open."""

    mean: float
    low: float | None
    high: float | None
    n: int


def mean_intervals(values: Array, seed: int = 0, *, share: bool = False) -> list[Interval | None]:
    """Means over prompts with their intervals.

    Args:
        values: [row, prompt]; NaN is left out.
        seed: of the resamples, the same for all rows that have as many numbers.
        share: the values are 0 and 1, and Wilson's interval is theirs; that of other means is the studentised
            bootstrap's.

    Returns:
        One for each row, None for a row with nothing left.
    """
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
