"""Means and shares, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from isokl_bench.bootstrap import mean_intervals


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
