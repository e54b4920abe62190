"""Survival of steered rollouts: the Kaplan–Meier curve of one set of them, its interval and its half-life."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isokl_registry.interval import LEVEL

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_ROUNDING = 1e-9  # a product of shares may miss the half it equals


@dataclass(frozen=True)
class Survival:
    """S(t), the estimated share alive after time t, as a step function.

    time: the distinct times of death or censoring, ascending. share: S from that time on; low, high: its 95 %
    interval, NaN where nobody or everybody has died. followed, died: of each rollout, [n]."""

    time: Array
    share: Array
    low: Array
    high: Array
    followed: Array
    died: Flags

    @property
    def n(self) -> int:
        """Rollouts."""
        return len(self.followed)

    @property
    def deaths(self) -> int:
        """Rollouts that died."""
        return int(self.died.sum())

    @property
    def end(self) -> float:
        """The last time at which any rollout was observed."""
        return float(self.time[-1])

    def at(self, time: float) -> tuple[float, float, float]:
        """S with its interval; NaN once the last rollout was lost from sight alive."""
        if time < self.time[0]:
            return 1.0, np.nan, np.nan
        if time > self.end and self.share[-1] > 0:
            return np.nan, np.nan, np.nan
        i = np.searchsorted(self.time, time, side="right") - 1
        return float(self.share[i]), float(self.low[i]), float(self.high[i])

    def at_risk(self, time: float) -> int:
        """Rollouts alive until just before the time, and still observed at it."""
        return int((self.followed >= time).sum())

    @property
    def half_life(self) -> float | None:
        """The first time at which S is a half or less, None where it stays above."""
        (reached,) = np.nonzero(self.share <= 0.5 + _ROUNDING)
        return float(self.time[reached[0]]) if len(reached) else None


def kaplan_meier(followed: Array, died: Flags) -> Survival:
    """The Kaplan–Meier estimate with log-log intervals, from the time of death or of censoring of each rollout, [n].

    A rollout censored at the time of a death was still at risk of it. Raises ValueError for no rollouts."""
    from scipy.stats import CensoredData, ecdf

    estimate = ecdf(CensoredData.right_censored(followed, ~died)).sf
    with warnings.catch_warnings():  # there is no interval at S = 0 or 1: NaN, as documented above
        warnings.simplefilter("ignore", RuntimeWarning)
        interval = estimate.confidence_interval(LEVEL, method="log-log")
    low, high = interval.low.probabilities, interval.high.probabilities
    return Survival(estimate.quantiles, estimate.probabilities, low, high, followed, died)
