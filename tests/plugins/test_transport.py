"""linear_act and chars: what lands where, and the transport plan behind it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from isokl_plugins.methods.chars import Chars
from isokl_plugins.methods.linear_act import LinearAct
from isokl_plugins.methods.mean_diff import MeanDiff
from isokl_plugins.methods.transport import sinkhorn
from isokl_registry import Contrast, Site

D = 8
SEEDS = st.integers(0, 2**32 - 1)


def contrast(positive: torch.Tensor, negative: torch.Tensor, seed: int = 0) -> Contrast:
    return Contrast(positive, negative, Site(1), torch.nn.Identity(), seed)


def normal(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed))


def steer(method, y: torch.Tensor, dose: float, state) -> torch.Tensor:
    """y: [n, d], as one text."""
    return method.edit(y.unsqueeze(0), torch.full((1, 1, 1), dose), y.unsqueeze(0), state)[0]


def quantiles(x: torch.Tensor) -> torch.Tensor:
    return x.sort(dim=0).values


SCALE, OFFSET = torch.linspace(0.2, 3, D), torch.linspace(-5, 5, D)


def test_linear_act_puts_quantiles_on_quantiles():
    """P is an affine image of N, its rows in another order in every coordinate."""
    negative = normal(50, 0)
    shuffle = normal(50, 1).argsort(dim=0)
    positive = (SCALE * negative + OFFSET).gather(0, shuffle)
    state = LinearAct().fit(contrast(positive, negative))
    torch.testing.assert_close(state["slope"], SCALE - 1, atol=1e-5, rtol=0)
    moved = steer(LinearAct(), negative, 1.0, state)
    torch.testing.assert_close(quantiles(moved), quantiles(positive), atol=1e-5, rtol=0)
    half = steer(LinearAct(), negative, 0.5, state)
    torch.testing.assert_close(
        quantiles(half), (quantiles(negative) + quantiles(positive)) / 2, atol=1e-5, rtol=0
    )


def test_linear_act_finds_the_gaussians_own_map():
    """Between two normal samples the map is (σ_P/σ_N)·(y − µ_N) + µ_P."""
    n = 20_000
    positive = SCALE * normal(n, 1) + OFFSET
    state = LinearAct().fit(contrast(positive, 2 * normal(n, 0)))
    torch.testing.assert_close(state["slope"] + 1, SCALE / 2, rtol=0.03, atol=0)
    torch.testing.assert_close(state["shift"], OFFSET, rtol=0, atol=0.1)


def test_linear_act_is_the_best_line_through_the_quantiles_of_a_monotone_deformation():
    negative = normal(40, 0)
    positive = negative.sinh()[normal(40, 1)[:, 0].argsort()]
    state = LinearAct().fit(contrast(positive, negative))
    for i in range(D):
        slope, height = np.polyfit(quantiles(negative)[:, i].double(), quantiles(positive)[:, i].double(), 1)
        assert float(state["slope"][i]) + 1 == pytest.approx(slope, rel=1e-5)
        assert steer(LinearAct(), torch.zeros(1, D), 1.0, state)[0, i] == pytest.approx(height, abs=1e-5)
    assert ((state["slope"] > 0) & (state["slope"] < 9)).all()


def test_linear_act_only_shifts_a_coordinate_that_is_constant():
    negative, positive = normal(10, 0), normal(10, 1)
    negative[:, 2] = 100.0
    negative[5, 2] = 100.0 + 1e-5  # a last digit
    state = LinearAct().fit(contrast(positive, negative))
    assert state["slope"][2] == 0
    assert state["shift"][2] == pytest.approx(float(positive[:, 2].mean()) - 100, rel=1e-5)


def test_linear_act_of_a_shift_is_mean_diff():
    negative = normal(10, 0)
    pair = contrast(negative + OFFSET, negative)
    by_hand = MeanDiff(normalize=False)
    expected = steer(by_hand, normal(5, 2), 0.7, by_hand.fit(pair))
    moved = steer(LinearAct(), normal(5, 2), 0.7, LinearAct().fit(pair))
    torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)


def test_linear_act_refuses_equal_distributions():
    negative = normal(10, 0)
    with pytest.raises(ValueError, match="contrast is zero"):
        LinearAct().fit(contrast(negative.flip(0), negative))


@settings(max_examples=40)
@given(seed=SEEDS, largest=st.sampled_from([0.0, 1.0, 30.0, 1000.0]), ties=st.booleans())
def test_sinkhorn_keeps_the_marginals_at_any_cost(seed, largest, ties):
    random = np.random.default_rng(seed)
    k, m = random.integers(1, 7, 2)
    cost = largest * (random.integers(0, 3, (k, m)) / 2 if ties else random.random((k, m)))
    source, target = random.dirichlet(np.ones(k)) + 1e-3, random.dirichlet(np.ones(m)) + 1e-3
    source, target = source / source.sum(), target / target.sum()
    plan = sinkhorn(cost, source, target)
    assert np.isfinite(plan).all()
    assert (plan >= 0).all()
    assert np.abs(plan.sum(1) - source).max() < 1e-9
    assert np.abs(plan.sum(0) - target).max() < 1e-9


def test_sinkhorn_couples_by_hand():
    """Two by two, equal masses: π₁₁π₂₂ / π₁₂π₂₁ = exp(−(c₁₁ + c₂₂ − c₁₂ − c₂₁)), so π₁₁ = ½·1/(1 + e⁻¹)."""
    plan = sinkhorn(np.array([[0.0, 1.0], [1.0, 0.0]]), np.full(2, 0.5), np.full(2, 0.5))
    same = 0.5 / (1 + np.exp(-1))
    np.testing.assert_allclose(plan, [[same, 0.5 - same], [0.5 - same, same]], atol=1e-9)
    free = sinkhorn(np.zeros((2, 3)), np.array([0.3, 0.7]), np.array([0.2, 0.2, 0.6]))
    np.testing.assert_allclose(free, np.outer([0.3, 0.7], [0.2, 0.2, 0.6]), atol=1e-9)


@pytest.mark.parametrize("seed", [5, 16, 18, 23])  # slow to converge: the last two not within the iterations
def test_sinkhorn_at_large_costs_is_the_optimal_plan(seed):
    random = np.random.default_rng(seed)
    cost = 1000 * random.random((4, 4))
    source, target = random.dirichlet(np.ones(4), 2)
    rows, columns = np.kron(np.eye(4), np.ones(4)), np.kron(np.ones(4), np.eye(4))
    best = linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([source, target]))
    plan = sinkhorn(cost, source, target)
    assert (plan * cost).sum() == pytest.approx(best.fun, abs=0.01)
    assert np.abs(plan.sum(1) - source).max() < 1e-9
    assert np.abs(plan.sum(0) - target).max() < 1e-9


def test_sinkhorn_does_not_change_with_a_shift_of_a_row_or_column():
    random = np.random.default_rng(0)
    cost, source, target = 5 * random.random((4, 3)), np.full(4, 0.25), np.array([0.2, 0.3, 0.5])
    shifted = cost + 300 * random.random((4, 1)) + 300 * random.random(3)
    np.testing.assert_allclose(
        sinkhorn(shifted, source, target), sinkhorn(cost, source, target), atol=1e-6, rtol=0
    )


CENTERS = 20 * torch.eye(D)[:4]
SHIFTS = torch.tensor([[3.0, 0, 0, 0], [0, -3.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 0]])


def clustered(shift: float = 0.0) -> Contrast:
    """Four clusters with shares 1:2:3:4, each moved by its row of SHIFTS in the last four coordinates, and all by
    `shift`; the positive rows are in another order."""
    member = torch.arange(4).repeat_interleave(torch.tensor([1, 2, 3, 4]) * 8)
    negative = CENTERS[member] + 0.01 * normal(len(member), 0)
    positive = CENTERS[member] + 0.01 * normal(len(member), 1) + shift
    positive[:, 4:] += SHIFTS[member]
    return contrast(positive.flip(0), negative)


@pytest.mark.parametrize("shift", [0.0, 5.0, 500.0])
def test_chars_displaces_each_cluster_by_its_own_shift(shift):
    state = Chars().fit(clustered(shift))
    order = torch.cdist(CENTERS, state["centers"] + state["mean"]).argmin(dim=1)
    expected = torch.nn.functional.pad(SHIFTS, (4, 0)) + shift
    torch.testing.assert_close(state["displacement"][order], expected, atol=0.05, rtol=0)


def test_chars_weights_are_the_normalised_rbf_kernel():
    state = Chars().fit(clustered())
    y = 10 * normal(6, 3)
    distance = torch.cdist(y.double(), (state["centers"] + state["mean"]).double())
    kernel = state["share"].double().exp() * (-(distance**2) / (2 * state["width"].double() ** 2)).exp()
    expected = y + 0.3 * (kernel / kernel.sum(1, keepdim=True)).float() @ state["displacement"]
    torch.testing.assert_close(steer(Chars(), y, 0.3, state), expected, atol=1e-5, rtol=0)


def test_chars_width_is_the_median_distance_from_the_centroids():
    pair = clustered()
    state = Chars().fit(pair)
    distance = torch.cdist(pair.negative, state["centers"] + state["mean"])
    assert float(state["width"]) == pytest.approx(float(np.median(distance)), rel=1e-4)


def test_chars_keeps_the_mean_shift():
    """Σ share·displacement is mean P − mean N whatever the coupling, because the plan keeps both marginals."""
    pair = contrast(normal(40, 0) + 1, normal(40, 1))
    state = Chars().fit(pair)
    nearest = torch.cdist(pair.negative, state["centers"] + state["mean"]).argmin(dim=1)
    shares = torch.bincount(nearest, minlength=4) / 40
    torch.testing.assert_close(shares @ state["displacement"], pair.difference.mean(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("dose", [-2.0, 0.3, 1.0, 50.0])
def test_chars_with_one_cluster_is_mean_diff(dose):
    pair, y = contrast(normal(20, 0) + 1, normal(20, 1)), normal(6, 2)
    chars, by_hand = Chars(k=1), MeanDiff(normalize=False)
    torch.testing.assert_close(
        steer(chars, y, dose, chars.fit(pair)),
        steer(by_hand, y, dose, by_hand.fit(pair)),
        rtol=1e-6,
        atol=1e-6,
    )


@pytest.mark.parametrize("distinct", [1, 2, 3])
def test_chars_makes_no_more_clusters_than_there_are_distinct_rows(distinct):
    negative = normal(distinct, 0).repeat(4, 1)
    state = Chars().fit(contrast(normal(4 * distinct, 1) + 1, negative))
    assert state["displacement"].shape == (distinct, D)
    assert all(value.isfinite().all() for value in state.values())
    assert steer(Chars(), 1e4 * normal(5, 2), 1e6, state).isfinite().all()


def test_chars_depends_on_the_seed_alone():
    pair = contrast(normal(40, 0) + 1, normal(40, 1), seed=3)
    first, again = Chars().fit(pair), Chars().fit(dataclasses.replace(pair))
    assert all(torch.equal(first[key], again[key]) for key in first)


def test_chars_refuses_no_clusters(registry):
    from isokl_registry import IsoklError

    with pytest.raises(IsoklError, match="at least 1 cluster"):
        registry.create("method", "chars[k=0]")
