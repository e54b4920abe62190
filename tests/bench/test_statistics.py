"""Intervals against scipy's bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from isokl_bench.statistics import bootstrap_means, bootstrap_stat, bounds, crossing, log_slope


def test_mean_interval_is_scipys():
    values = np.random.default_rng(0).gamma(2.0, size=(2, 32))
    for row, found in zip(values, bootstrap_means(values), strict=True):
        want = scipy_stats.bootstrap(
            (row,), np.mean, method="percentile", n_resamples=10_000, rng=1
        ).confidence_interval
        assert found.mean == pytest.approx(row.mean())
        assert (found.low, found.high) == pytest.approx((want.low, want.high), rel=0.02)
        assert found.n == 32


def test_unscored_values_are_left_out():
    values = np.array([[1.0, np.nan, 3.0, np.nan], [np.nan] * 4, [2.0] * 4])
    some, none, all_equal = bootstrap_means(values)
    assert (some.mean, some.low, some.high, some.n) == (2.0, 1.0, 3.0, 2)
    assert none is None
    assert (all_equal.low, all_equal.high) == (2.0, 2.0)


def test_same_seed_same_interval():
    values = np.random.default_rng(0).normal(size=(1, 8))
    assert bootstrap_means(values, 3) == bootstrap_means(values, 3)
    assert bootstrap_means(values, 3) != bootstrap_means(values, 4)


def test_crossing_interpolates_on_logs():
    assert crossing([1, 2, 4, 8], [0.01, 0.04, 0.16, 0.64], 0.08) == pytest.approx(2 * 2**0.5)
    assert crossing([1, 2], [0.1, 0.2], 1.0) == np.inf
    assert crossing([1, 2], [3.0, 4.0], 1.0) == 0
    assert crossing([1], [0.5], 1.0) == np.inf
    assert crossing([1], [3.0], 1.0) == 0
    assert crossing([1, 2], [-0.02, 0.3], 0.1) == pytest.approx(1 * 2 ** (0.12 / 0.32))


@given(power=st.floats(0.2, 5), root=st.floats(1.01, 99))
def test_crossing_is_exact_on_power_laws(power, root):
    doses = [1.0, 10.0, 100.0]
    assert crossing(doses, [(d / root) ** power for d in doses], 1.0) == pytest.approx(root, rel=1e-6)


def test_coefficient_interval_of_known_spread():
    """Stat of prompt i at dose c is c·s_i and the target is 1, so the root on a resample is 1 / mean(s)."""
    scale = np.random.default_rng(0).uniform(0.5, 1.5, size=24)
    doses = np.geomspace(0.3, 3, 40).tolist()
    values = [bootstrap_stat(lambda rows, dose=dose: dose * scale[rows].mean(-1), 24, 0) for dose in doses]
    low, high = bounds(crossing(doses, np.stack(values), 1.0))
    want = bounds(bootstrap_stat(lambda rows: 1 / scale[rows].mean(-1), 24, 0))
    assert (low, high) == pytest.approx(want, rel=1e-6)
    assert low < 1 / scale.mean() < high


@given(power=st.floats(0.2, 9), root=st.floats(1.01, 99))
def test_slope_is_the_power_of_a_power_law(power, root):
    doses = [1.0, 10.0, 100.0]
    assert log_slope(doses, [2 * (d / root) ** power for d in doses], 2.0) == pytest.approx(power)


def test_slope_is_that_of_the_values_near_the_target():
    doses, values = [0.1, 1.0, 2.0, 4.0, 40.0], [0.9e-3, 0.5, 0.8, 2.0, 2.1]
    assert log_slope(doses, values, 1.0) == pytest.approx(np.log2(2.0 / 0.8))
    assert log_slope([1, 2, 2.001, 4], [0.25, 0.9, 1.1, 4], 1.0) == pytest.approx(2, abs=0.2)  # a step at 2
    assert log_slope([1, 2], [0.1, 0.2], 1.0) is None  # not passed
    assert log_slope([1, 2], [3.0, 4.0], 1.0) is None
    assert log_slope([1, 2, 4], [-0.2, 0.0, 4.0], 1.0) is None  # nothing positive under it
    assert log_slope([1, 2, 4], [-0.2, 0.5, 1.5], 1.0) == pytest.approx(np.log2(3))
