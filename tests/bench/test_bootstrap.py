"""Means, shares and crossings, by hand and against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isokl_bench.bootstrap import crossing, crossing_interval, log_slope, mean_intervals

INF = np.inf


def test_unscored_values_are_left_out():
    values = np.array(
        [[1.0, np.nan, 3.0, 4.0, np.nan, 7.0, 8.0], [np.nan] * 7, [1.0, 3, 4, 7, 8, np.nan, np.nan]]
    )
    some, none, same = mean_intervals(values)
    assert (some.mean, some.n) == (4.6, 5)
    assert none is None
    assert same == some  # whichever prompts they are


def test_same_seed_same_interval():
    values = np.random.default_rng(0).normal(size=(1, 8))
    assert mean_intervals(values, 3) == mean_intervals(values, 3)
    assert mean_intervals(values, 3) != mean_intervals(values, 4)


@pytest.mark.parametrize("values", [[2.0], [2.0] * 9, [0.1] * 7, [1.0, 2.0]])
def test_what_has_no_spread_is_open(values):
    (found,) = mean_intervals(np.array([values]))
    assert (found.low, found.high, found.n) == (None, None, len(values))


def test_shares_have_wilsons_interval():
    values = np.zeros((3, 32))
    values[1, :8], values[2, 4:] = 1, np.nan
    none, quarter, few = mean_intervals(values, share=True)
    assert (none.mean, none.low, none.high) == (0, 0, pytest.approx(0.107179, abs=1e-6))
    assert (quarter.low, quarter.high) == pytest.approx((0.132524, 0.421066), abs=1e-6)
    assert (few.n, few.high) == (4, pytest.approx(0.489891, abs=1e-6))


def test_crossing_interpolates_on_logs():
    assert crossing([1, 2, 4, 8], [0.01, 0.04, 0.16, 0.64], 0.08) == pytest.approx(2 * 2**0.5)
    assert crossing([1, 2], [0.1, 0.2], 1.0) == INF
    assert crossing([1, 2], [3.0, 4.0], 1.0) == 0
    assert crossing([1], [0.5], 1.0) == INF
    assert crossing([1], [3.0], 1.0) == 0
    assert crossing([1, 2], [-0.02, 0.3], 0.1) == pytest.approx(1 * 2 ** (0.12 / 0.32))
    assert crossing([1, 2], [0.1, INF], 1.0) == 1  # an open end reaches as far as it can
    assert crossing([1, 2], [-INF, 4.0], 1.0) == 2


@given(power=st.floats(0.2, 5), root=st.floats(1.01, 99))
def test_crossing_is_exact_on_power_laws(power, root):
    doses = [1.0, 10.0, 100.0]
    assert crossing(doses, [(d / root) ** power for d in doses], 1.0) == pytest.approx(root, rel=1e-6)


def test_the_interval_of_a_root_is_where_that_of_the_stat_holds_the_target():
    doses = [1.0, 2.0, 4.0, 8.0]
    ends = [(0.1 * dose, 0.4 * dose) for dose in doses]  # of a stat that is dose / 4
    assert crossing_interval(doses, ends, 1.0, 4.0) == (pytest.approx(2.5), INF)
    assert crossing_interval(doses, ends, 0.3, 1.0) == (0, pytest.approx(3.0))
    assert crossing_interval(doses, [(0.0, 0.5), (0.1, INF), (1.0, 2.0), (2.0, 4.0)], 1.5, 4.0) == (
        1.0,
        pytest.approx(4 * 2**0.585, rel=1e-3),
    )
    assert crossing_interval(doses, [(-INF, INF), *ends[1:]], 1.0, 4.0)[0] == pytest.approx(2.5)
    assert crossing_interval(doses, [(-INF, INF)] * 4, 1.0, 4.0) == (0, INF)


@given(
    ends=st.lists(st.tuples(st.floats(0.01, 9), st.floats(0.01, 9)), min_size=1, max_size=9),
    target=st.floats(0.1, 5),
    wider=st.floats(1, 3),
    data=st.data(),
)
def test_a_root_is_in_its_interval_and_wider_ones_of_the_stat_make_it_wider(ends, target, wider, data):
    ends = [(min(pair), max(pair)) for pair in ends]
    doses = [2.0**i for i in range(len(ends))]
    root = data.draw(st.sampled_from(doses))
    low, high = crossing_interval(doses, ends, target, root)
    assert 0 <= low <= root <= high
    less, more = crossing_interval(doses, [(a / wider, b * wider) for a, b in ends], target, root)
    assert less <= low * (1 + 1e-9)
    assert more >= high * (1 - 1e-9)


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
