"""Means over seeds and their 95 % bootstrap interval: every table row and every fork point needs one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import combinations_with_replacement
from math import factorial
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from isokl_bench.statistics import LEVEL, RESAMPLES

Array = NDArray[np.float64]
EXACT = 7  # up to here all resamples can be listed (1 716 of them), so none need be drawn
DRAWN = 200
BLOCK = 500_000  # numbers held at a time; larger arrays cost more in memory than they save in calls


def seed_intervals(samples: Sequence[Sequence[float]]) -> list[tuple[float, float, float]]:
    """Mean, low and high of each sample, a sample being one number per seed, two seeds at least.

    The interval is the percentile bootstrap over seeds: exact for up to 7 seeds, from 10 000 resamples for up to
    200, its normal limit for more."""
    found = [(0.0, 0.0, 0.0)] * len(samples)
    for n in {len(sample) for sample in samples}:
        chosen = [i for i, sample in enumerate(samples) if len(sample) == n]
        values = np.array([samples[i] for i in chosen], dtype=float)
        low, high = (_exact if n <= EXACT else _drawn if n <= DRAWN else _limit)(values)
        intervals = zip(values.mean(axis=1).tolist(), low.tolist(), high.tolist(), strict=True)
        for i, interval in zip(chosen, intervals, strict=True):
            found[i] = interval
    return found


def _exact(values: Array) -> tuple[Array, Array]:
    """Bounds from the whole distribution of resampled means: the smallest one with 2.5 % (97.5 %) at or under it."""
    n = values.shape[1]
    counts, chance = _resamples(n)
    tail = (1 - LEVEL / 100) / 2
    bounds = np.empty((2, len(values)))
    step = max(1, BLOCK // len(counts))
    for start in range(0, len(values), step):
        means = values[start : start + step] @ counts.T / n
        order = np.argsort(means, axis=1)
        reached = np.cumsum(chance[order], axis=1)
        for side, share in enumerate((tail, 1 - tail)):
            first = np.argmax(reached >= share - 1e-12, axis=1)
            place = np.take_along_axis(order, first[:, None], axis=1)
            bounds[side, start : start + step] = np.take_along_axis(means, place, axis=1)[:, 0]
    return bounds[0], bounds[1]


@cache
def _resamples(n: int) -> tuple[NDArray[np.int64], Array]:
    """Every resample of n, as how often each is in it, and its chance. Kept, for a figure asks at each of its points."""
    picks = combinations_with_replacement(range(n), n)
    counts = np.array([np.bincount(pick, minlength=n) for pick in picks])
    chance = np.array([factorial(n) / np.prod([factorial(c) for c in row]) for row in counts.tolist()]) / n**n
    return counts, chance


def _drawn(values: Array) -> tuple[Array, Array]:
    """Bounds from drawn resamples, which all rows share."""
    n = values.shape[1]
    weights = np.random.default_rng(0).multinomial(n, [1 / n] * n, size=RESAMPLES) / n
    tail = (100 - LEVEL) / 2
    step = BLOCK // RESAMPLES
    parts = [
        np.percentile(values[start : start + step] @ weights.T, [tail, 100 - tail], axis=1)
        for start in range(0, len(values), step)
    ]
    low, high = np.concatenate(parts, axis=1)
    return low, high


def _limit(values: Array) -> tuple[Array, Array]:
    """Bounds from the normal distribution that the bootstrap of so many seeds comes to."""
    half = NormalDist().inv_cdf(0.5 + LEVEL / 200) * values.std(axis=1) / np.sqrt(values.shape[1])
    mean = values.mean(axis=1)
    return mean - half, mean + half
