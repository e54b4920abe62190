"""Calibration stats against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from isokl_registry import TokenValues, load_registry

STATS = ["kl_p95", "kl_mean", "kl_max", "nll"]


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


@pytest.mark.parametrize("name", STATS)
@given(
    seed=st.integers(0, 2**32), prompts=st.integers(1, 6), tokens=st.integers(1, 12), heavy=st.floats(0.2, 3)
)
def test_unfinished_rollout_bounds_the_stat_from_below(name, seed, prompts, tokens, heavy):
    """What early exit rests on: 0 for every token that is still to come, of rows that may yet end, gives no more than
    the finished stat. So a dose that is over a ceiling already is over it in the end, and dropping it is certain."""
    rng = np.random.default_rng(seed)
    kl, nll = (rng.exponential(size=(prompts, tokens)) ** heavy for _ in range(2))
    base = TokenValues(kl, rng.exponential(size=(prompts, tokens)))
    length = rng.integers(1, tokens + 1, size=prompts)
    ended = np.arange(tokens) >= length[:, None]
    kl[ended] = nll[ended] = np.nan
    stat = load_registry().create("stat", name)
    final = stat(TokenValues(kl, nll), base)
    for done in range(tokens + 1):
        known = np.arange(tokens) < done
        over = ended & (length[:, None] <= done)  # an end that has been seen
        partial = TokenValues(*(np.where(over, np.nan, np.where(known, x, 0.0)) for x in (kl, nll)))
        assert stat(partial, base) <= final + 1e-12


@pytest.mark.parametrize("name", STATS)
def test_sets_of_prompts_at_once(values, registry, name):
    """What intervals rest on: sets of prompts with a dimension more in front, each as it would be alone."""
    steered, base = values
    stat = registry.create("stat", name)
    sets = np.random.default_rng(1).integers(0, 6, size=(7, 6))

    def pick(rows):
        return [TokenValues(v.kl[rows], v.nll[rows]) for v in (steered, base)]

    together = stat(*pick(sets))
    assert together.shape == (7,)
    assert together == pytest.approx([float(stat(*pick(rows))) for rows in sets], abs=1e-12)


@given(
    kl=st.lists(
        st.one_of(st.floats(0, 1e6), st.just(np.nan), st.just(np.inf)), min_size=1, max_size=60
    ).filter(lambda values: not all(np.isnan(values)))
)
def test_kl_p95_is_numpys(kl):
    array = np.array(kl)[None]
    with np.errstate(invalid="ignore"):
        want = np.percentile(pool(array), 95)
    found = float(
        load_registry().create("stat", "kl_p95")(TokenValues(array, array), TokenValues(array, array))
    )
    assert found == pytest.approx(want) or (np.isnan(want) and found == np.inf)
