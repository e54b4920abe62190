"""Calibration stats against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from isokl_registry import TokenValues


@pytest.fixture
def values():
    rng = np.random.default_rng(0)
    kl, nll = rng.exponential(size=(6, 20)), rng.exponential(size=(6, 20))
    kl[2, 7:] = nll[2, 7:] = np.nan  # a row that ended
    return TokenValues(kl, nll), TokenValues(np.zeros((6, 20)), rng.exponential(size=(6, 20)))


def pool(array):
    return array[~np.isnan(array)]


def test_kl_p95_is_the_linear_percentile(values, registry):
    steered, base = values
    want = scipy_stats.scoreatpercentile(pool(steered.kl), 95)
    assert registry.create("stat", "kl_p95")(steered, base) == pytest.approx(want, abs=1e-12)


def test_percentile_by_hand(registry):
    kl = np.arange(1.0, 22.0).reshape(3, 7)  # 1 … 21: the 95th percentile is at index 19
    assert registry.create("stat", "kl_p95")(TokenValues(kl, kl), TokenValues(kl, kl)) == 20.0


def test_mean_max_and_nll(values, registry):
    steered, base = values
    assert registry.create("stat", "kl_mean")(steered, base) == pytest.approx(pool(steered.kl).mean())
    assert registry.create("stat", "kl_max")(steered, base) == pool(steered.kl).max()
    want = pool(steered.nll).mean() - base.nll.mean()
    assert registry.create("stat", "nll")(steered, base) == pytest.approx(want)


@pytest.mark.parametrize(
    ("name", "target"), [("kl_p95", 1.0), ("kl_mean", 0.3), ("kl_max", 4.0), ("nll", 0.1)]
)
def test_default_targets(registry, name, target):
    assert registry.create("stat", name).target == target


@pytest.mark.parametrize("name", ["kl_p95", "kl_mean", "kl_max", "nll"])
def test_unfinished_rollout_bounds_the_stat_from_below(values, registry, name):
    """What early exit rests on: 0 for every token that is still to come gives no more than the finished stat."""
    steered, base = values
    stat = registry.create("stat", name)
    for done in range(1, 20):
        kl, nll = steered.kl.copy(), steered.nll.copy()
        kl[:, done:] = nll[:, done:] = 0.0
        if done >= 7:
            kl[2, 7:] = nll[2, 7:] = np.nan  # known to have ended
        assert stat(TokenValues(kl, nll), base) <= stat(steered, base) + 1e-12
