"""Intervals over prompts: by hand, by their properties, and by how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from isokl_registry import TokenValues, interval, load_registry

REGISTRY = load_registry()


def values(kl):
    return TokenValues(kl, kl)


def clustered(rng, *shape, tokens=20):
    """KL of prompts [..., prompt, token] that are strong or weak as a whole, skewed as KL is."""
    return rng.lognormal(0, 0.7, (*shape, 1)) * rng.gamma(0.5, size=(*shape, tokens))


def test_a_mean_by_hand():
    """Three numbers have 27 resamples, of which 3 have no spread: every seed finds the interval open."""
    (low,), (high,) = interval.means(np.array([[1.0, 2.0, 4.0]]))
    assert (low, high) == (-np.inf, np.inf)


def test_a_mean_is_near_students_where_the_sample_is_normal():
    sample = scipy_stats.norm.ppf((np.arange(40) + 0.5) / 40)
    (low,), (high,) = interval.means(sample[None])
    half = scipy_stats.t.ppf(0.975, 39) * sample.std(ddof=1) / 40**0.5
    assert (low, high) == pytest.approx((-half, half), rel=0.05)


def test_skew_is_in_the_interval_of_a_mean():
    sample = scipy_stats.expon.ppf((np.arange(32) + 0.5) / 32)
    (low,), (high,) = interval.means(sample[None])
    assert high - sample.mean() > 1.3 * (sample.mean() - low)


@given(
    sample=st.lists(st.floats(-9, 9), min_size=1, max_size=12),
    scale=st.floats(0.1, 10),
    shift=st.floats(-5, 5),
    order=st.randoms(),
)
def test_a_mean_is_in_its_interval_wherever_it_is_measured(sample, scale, shift, order):
    (low,), (high,) = interval.means(np.array([sample]))
    assert low - 1e-9 <= np.mean(sample) <= high + 1e-9
    order.shuffle(sample)
    assert interval.means(np.array([sample])) == ([low], [high])
    if np.std(sample) > 1e-3:
        moved = interval.means(scale * np.array([sample]) + shift)
        assert moved == (pytest.approx([scale * low + shift]), pytest.approx([scale * high + shift]))


@given(n=st.integers(1, 60), data=st.data())
def test_shares_are_scipys(n, data):
    hits = data.draw(st.integers(0, n))
    (low,), (high,) = interval.shares(np.array([float(hits)]), n)
    want = scipy_stats.binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert (low, high) == pytest.approx((want.low, want.high), abs=1e-9)


def test_design_effect_by_hand():
    """Four prompts of five tokens, two hits in 20, p = 0.1. Both in one prompt: residuals 1.5, −.5 thrice; squares 3;
    · 4/3 / 400 = 0.01. One each in two: residuals ±.5, squares 1, a third of it. Binomial: .1 · .9 / 20 = 0.0045."""
    together, apart = np.zeros((2, 4, 5), dtype=bool)
    together[0, :2] = apart[:2, 0] = True
    there = np.ones((4, 5), dtype=bool)
    assert interval.design_effect(together, there) == pytest.approx(0.01 / 0.0045)
    assert interval.design_effect(apart, there) == 1  # 0.74: not believed
    assert interval.design_effect(np.zeros((4, 5), dtype=bool), there) == 1
    many = np.zeros((40, 30), dtype=bool)
    many[:2] = True
    assert interval.design_effect(many, np.ones_like(many)) == 6  # of 31


def test_a_percentile_by_hand():
    """Every token of its own prompt: s is that of 1 000 draws, and the ends are percentiles of 0 … 999."""
    kl = np.random.default_rng(0).permutation(np.arange(1000.0))[:, None]
    s = scipy_stats.t.ppf(0.975, 999) * (0.05 * 0.95 / 1000) ** 0.5
    assert interval.percentile(kl, 95) == pytest.approx((999 * (0.95 - s), 999 * (0.95 + s)), abs=1)


def test_a_percentile_is_open_where_the_pool_may_have_missed_what_is_beyond():
    kl = np.random.default_rng(0).exponential(size=(8, 20))
    low, high = interval.percentile(kl, 95)
    assert 0 < low < np.percentile(kl, 95)
    assert np.isfinite(high)
    assert interval.percentile(kl[:4], 95)[1] == np.inf  # 95 % + 7.8 %
    assert interval.percentile(kl[:2, :4], 95) == interval.OPEN
    assert interval.percentile(kl[:1], 95) == interval.OPEN


@given(seed=st.integers(0, 999), prompts=st.integers(2, 12), tokens=st.integers(1, 20), q=st.floats(5, 95))
def test_a_percentile_is_in_its_interval_in_any_order(seed, prompts, tokens, q):
    rng = np.random.default_rng(seed)
    kl = clustered(rng, prompts, tokens=tokens)
    kl[np.arange(tokens) >= rng.integers(1, tokens + 1, size=prompts)[:, None]] = np.nan
    low, high = interval.percentile(kl, q)
    assert low <= np.nanpercentile(kl, q) <= high
    assert interval.percentile(kl[rng.permutation(prompts)], q) == pytest.approx((low, high))


@pytest.mark.parametrize("name", ["kl_p95", "kl_mean", "kl_max", "nll"])
def test_the_stat_is_in_its_interval_in_any_order(name):
    stat, rng = REGISTRY.create("stat", name), np.random.default_rng(0)
    steered, base = (values(clustered(rng, 16)) for _ in range(2))
    steered.kl[3, 7:] = np.nan
    low, high = stat.interval(steered, base)
    assert low <= stat(steered, base) <= high
    assert np.isfinite([low, high]).all() == (name != "kl_max")
    other = rng.permutation(16)
    assert stat.interval(steered.of(other), base.of(other)) == pytest.approx((low, high))


def test_what_counts_of_a_prompt_in_a_mean_of_tokens():
    """Of rows of one length it is the row's mean; the mean of all is the stat, whatever their lengths."""
    rng, stat = np.random.default_rng(0), REGISTRY.create("stat", "kl_mean")
    kl = rng.exponential(size=(8, 20))
    assert interval.by_prompt(stat, values(kl), values(kl)) == pytest.approx(kl.mean(1))
    kl[2, 11:] = np.nan
    assert interval.by_prompt(stat, values(kl), values(kl)).mean() == pytest.approx(np.nanmean(kl), rel=1e-2)


def test_a_stat_that_declares_nothing_has_an_interval_from_eight_prompts_on():
    rng, stat = np.random.default_rng(0), REGISTRY.create("stat", "kl_p95")
    steered = values(clustered(rng, 8))
    low, high = interval.resampled(stat, steered, steered)
    assert low < stat(steered, steered) < high
    few = steered.of(np.arange(7))
    assert interval.resampled(stat, few, few) == interval.OPEN


SETS = 400


@pytest.mark.parametrize("n", [4, 32])
def test_intervals_hold_the_truth_as_often_as_they_say(n):
    """Sets of prompts from a made-up population, whose truth is that of a million of its tokens."""
    rng = np.random.default_rng(n)
    many = clustered(rng, 50_000)
    drawn = clustered(rng, SETS, n)
    stat = REGISTRY.create("stat", "kl_mean")
    found = {
        "mean": interval.means(drawn.mean(2)),
        "stat": interval.means(np.stack([interval.by_prompt(stat, values(kl), values(kl)) for kl in drawn])),
        "share": interval.shares((drawn[:, :, 0] < 2e-3).sum(1).astype(float), n),
        "percentile": np.array([interval.percentile(kl, 95) for kl in drawn]).T,
    }
    truth = {"mean": many.mean(), "stat": many.mean(), "share": (many[:, 0] < 2e-3).mean()}
    truth["percentile"] = np.percentile(many, 95)
    for name, (low, high) in found.items():
        held = ((low <= truth[name]) & (truth[name] <= high)).mean()
        assert held >= (0.90 if n == 4 else 0.925), name  # 400 sets: ± 0.02
        assert n == 4 or name == "share" or np.isfinite([low, high]).all()
