"""95 % intervals over prompts: of means, of percentiles, of anything smooth.

Prompts are the unit that is drawn; the tokens of one prompt are a cluster. An end that the prompts do not
tell is infinite: the interval is open there. How often each of them holds the truth is measured in
docs/intervals.md."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from isokl_registry.token_values import TokenValues

Array = NDArray[np.float64]
StatOf = Callable[["TokenValues", "TokenValues"], Array]  # a stat: of the steered rollout and the base one
Ends = tuple[float, float]
LEVEL = 0.95
OPEN: Ends = (-math.inf, math.inf)
RESAMPLES = 10_000
SETS = 1000  # of resampled prompts, for a stat of which nothing is known
TOGETHER = 100  # rows whose resamples are held in memory at a time
DEFF = (1.0, 6.0)  # design effects between which one is believed


def means(values: Array, seed: int = 0) -> tuple[Array, Array]:
    """The interval of each of some means, by the studentised bootstrap (Efron and Tibshirani 1993, ch. 12).

    A resample is as far from the mean as it is in its own standard errors, so that skew and small n are in
    the interval. Open where n = 1 or all values are the same: nothing then tells how far others may lie; and
    where more than the tail's share of resamples has no spread (n = 2, and 3).

    Args:
        values: [row, n]; the mean is that of a row.
        seed: of the resamples.

    Returns:
        Lower and upper ends, each [row].
    """
    values = np.sort(values, axis=1)  # an interval does not depend on the order of prompts
    n = values.shape[1]
    mean = values.mean(1, keepdims=True)
    centred = values - mean
    spread = np.sqrt((centred**2).mean(1))
    least = 1e-12 * np.abs(values).max(1)  # less is rounding
    low, high = np.full(len(values), -np.inf), np.full(len(values), np.inf)
    weights = _resamples(n, seed)
    for start in range(0, len(values), TOGETHER):
        rows = np.arange(start, min(start + TOGETHER, len(values)))
        rows = rows[spread[rows] > least[rows]]
        moved = centred[rows] @ weights
        with np.errstate(divide="ignore", invalid="ignore"):
            own = np.sqrt(np.maximum((centred[rows] ** 2) @ weights - moved**2, 0))
            t = moved / np.where(own > 1e-6 * spread[rows, None], own, 0)
        below, above = _tails(t)
        low[rows] = mean[rows, 0] - np.maximum(above, 0) * spread[rows]
        high[rows] = mean[rows, 0] - np.minimum(below, 0) * spread[rows]
    return low, high


@lru_cache(maxsize=4)
def _resamples(n: int, seed: int) -> Array:
    """How often each of n is in each resample, over n: [n, RESAMPLES]."""
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    return np.ascontiguousarray(drawn.T / n)


def _tails(t: Array) -> tuple[Array, Array]:
    """The values of each row [row, RESAMPLES] with half of what LEVEL leaves out beyond them. NaN (a resample
    of one value that is the mean itself) may lie anywhere, so it counts as beyond on both sides."""
    out = round((1 - LEVEL) / 2 * RESAMPLES)
    ends = []
    for side in (-1, 1):
        some = np.where(np.isnan(t), np.inf, side * t)
        ends.append(side * np.partition(some, RESAMPLES - out - 1, axis=1)[:, RESAMPLES - out - 1])
    return ends[0], ends[1]


def shares(hits: Array, n: int) -> tuple[Array, Array]:
    """Wilson's interval of each of some shares (Wilson 1927): 0 of 32 is [0, 0.107].

    Args:
        hits: how many, of n; any shape.
        n: of how many.

    Returns:
        Lower and upper ends, each in the shape of `hits`.
    """
    from scipy.special import ndtri

    z = float(ndtri((1 + LEVEL) / 2))
    middle, half = hits + z * z / 2, z * np.sqrt(hits * (n - hits) / n + z * z / 4)
    return np.maximum(middle - half, 0.0) / (n + z * z), np.minimum((middle + half) / (n + z * z), 1.0)


def smooth(stat: StatOf, steered: TokenValues, base: TokenValues) -> Ends:
    """Of a stat made of means, such as their difference or ratio: the interval of the mean of `by_prompt`."""
    if len(steered.kl) < 2:
        return OPEN
    (low,), (high,) = means(by_prompt(stat, steered, base)[None])
    return float(low), float(high)


def by_prompt(stat: StatOf, steered: TokenValues, base: TokenValues) -> Array:
    """The jackknife's pseudo-values, [prompt]: what the stat would be if all prompts were as this one is
    beside the others. Their mean is the stat, but for a bias of the order of 1 / prompts."""
    n = len(steered.kl)
    others = np.arange(n - 1) + (np.arange(n - 1) >= np.arange(n)[:, None])  # row i: all but i
    values: Array = n * stat(steered, base) - (n - 1) * stat(steered.of(others), base.of(others))
    return values


def resampled(stat: StatOf, steered: TokenValues, base: TokenValues, seed: int = 0) -> Ends:
    """Of any stat: percentiles of it on resampled sets of prompts, further out than those of LEVEL by as much
    as so few prompts vary less among themselves than others do. Open where they are too far out to be told (n
    < 8)."""
    from scipy.special import ndtr, stdtrit

    n = len(steered.kl)
    out = float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - LEVEL) / 2))) if n > 1 else 0.0
    if out * SETS < 5:
        return OPEN
    sets = np.random.default_rng(seed).integers(0, n, size=(SETS, n))
    found = [stat(steered.of(some), base.of(some)) for some in np.split(sets, 20)]  # few at a time: memory
    # The nearest, because there is nothing between two infinities.
    low, high = np.quantile(np.concatenate(found), [out, 1 - out], method="nearest")
    value = float(stat(steered, base))
    return min(float(low), value), max(float(high), value)


def percentile(values: Array, q: float) -> Ends:
    """Of percentile q of the pool of `values` [prompt, token], NaN where a row has ended: the pooled
    percentiles q ± 100·s.

    s is the standard error of the share of tokens over it, times t(n − 1): their binomial one, times the root
    of the design effect, which tells how far the tokens of a prompt go together. Open above 100 and below 0:
    a pool so small may have missed all that is beyond."""
    from scipy.special import stdtrit

    n = len(values)
    if n < 2:
        return OPEN
    there = ~np.isnan(values)
    pool, p = np.sort(values[there]), 1 - q / 100
    deff = design_effect(values > np.percentile(pool, q), there)
    s = 100 * float(stdtrit(n - 1, (1 + LEVEL) / 2)) * math.sqrt(p * (1 - p) * deff / len(pool))
    low = float(np.percentile(pool, q - s)) if q - s > 0 else -math.inf
    high = float(np.percentile(pool, q + s)) if q + s < 100 else math.inf
    return low, high


def design_effect(hits: NDArray[np.bool_], there: NDArray[np.bool_]) -> float:
    """Variance of the share of hits [prompt, token] among the tokens that are there, prompts being drawn,
    over its variance if tokens were drawn one by one; within DEFF."""
    counts, sizes = hits.sum(1), there.sum(1)
    n, tokens = len(counts), sizes.sum()
    share = counts.sum() / tokens
    if not 0 < share < 1:
        return DEFF[0]
    drawn = n / (n - 1) * ((counts - share * sizes) ** 2).sum() / tokens**2
    return float(np.clip(drawn / (share * (1 - share) / tokens), *DEFF))
