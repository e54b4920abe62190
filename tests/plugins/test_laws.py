"""The three laws of the contract, for every registered method, and each method's own arithmetic."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from isokl_bench.engine.steering import Steering, attached
from isokl_registry import Contrast, Site, load_registry

METHODS = sorted(load_registry().entries["method"])
N, D = 12, 16


def contrast(n: int = N, seed: int = 0, *, offset: float = 2.0) -> Contrast:
    generator = torch.Generator().manual_seed(seed)
    positive, negative = (torch.randn(n, D, generator=generator) for _ in range(2))
    positive[:, 0] += offset
    return Contrast(positive, negative, Site(1), torch.nn.Identity(), seed)


@pytest.fixture(params=METHODS)
def method(request, registry):
    return registry.create("method", request.param)


def rows(b: int = 5, s: int = 3) -> torch.Tensor:
    return torch.randn(b, s, D, generator=torch.Generator().manual_seed(1))


def test_dose_0_is_the_identity_bit_for_bit(method):
    output = rows()
    state = method.fit(contrast())
    assert torch.equal(method.edit(output, torch.zeros(5, 1, 1), output, state), output)


def test_dose_is_per_row(method):
    output, state = rows(), method.fit(contrast())
    doses = torch.tensor([0.0, 0.3, -1.0, 2.0, 50.0]).view(-1, 1, 1)
    together = method.edit(output, doses, output, state)
    for i in range(5):
        alone = method.edit(output[i : i + 1], doses[i : i + 1], output[i : i + 1], state)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-6, atol=1e-6)
    assert not torch.equal(together[3], output[3])


@pytest.mark.parametrize("dose", [10.0**power for power in range(-6, 7)])
def test_finite_over_12_decades(method, dose):
    output, state = rows(), method.fit(contrast())
    for sign in (1, -1):
        assert method.edit(output, torch.full((5, 1, 1), sign * dose), output, state).isfinite().all()


def test_steering_is_data(method, registry):
    steering = Steering(method, {Site(1): method.fit(contrast())}, {"behavior": "x", "layers": [1]})
    data = steering.to_bytes()
    back = Steering.from_bytes(data, registry)
    assert back.method == method
    assert back.metadata == steering.metadata
    assert back.to_bytes() == data
    for key, value in steering.state[Site(1)].items():
        assert torch.equal(back.state[Site(1)][key], value)
        assert value.dtype == torch.float32


def test_fit_is_deterministic(method):
    first, second = method.fit(contrast()), method.fit(contrast())
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_zero_contrast_is_refused(method):
    same = contrast()
    with pytest.raises(ValueError, match="contrast is zero"):
        method.fit(dataclasses.replace(same, negative=same.positive))


def test_nothing_is_left_on_the_model_after_an_exception(method, tiny):
    steering = Steering(method, {Site(1): {"v": torch.ones(128)}})
    ids, mask = tiny.pad_rows([[5, 6, 7]])
    before = tiny.forward(ids, mask)

    def steer_and_stop():
        with attached(tiny, steering) as edits:
            edits.arrange(torch.full((1,), 9.0))
            assert not torch.equal(tiny.forward(ids, mask), before)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        steer_and_stop()
    assert torch.equal(tiny.forward(ids, mask), before)


def test_mean_diff_by_hand(registry):
    pair = contrast()
    mean = (pair.positive - pair.negative).mean(0)
    fitted = registry.create("method", "mean_diff").fit(pair)["v"]
    torch.testing.assert_close(fitted, mean / mean.norm())
    raw = registry.create("method", "mean_diff[normalize=false]").fit(pair)["v"]
    torch.testing.assert_close(raw, mean)


@pytest.mark.parametrize("seed", range(5))
def test_pca_is_the_first_uncentred_component_with_the_contrasts_sign(registry, seed):
    pair = contrast(seed=seed)
    difference = pair.difference.double().numpy()
    _, vectors = np.linalg.eigh(difference.T @ difference)
    fitted = registry.create("method", "pca").fit(pair)["v"].double().numpy()
    assert abs(fitted @ vectors[:, -1]) == pytest.approx(1, abs=1e-5)
    assert difference.mean(0) @ fitted > 0


def test_ablation_removes_the_direction_and_does_so_once(registry):
    ablation = registry.create("method", "directional_ablation")
    state, output, one = ablation.fit(contrast()), rows(), torch.ones(5, 1, 1)
    gone = ablation.edit(output, one, output, state)
    torch.testing.assert_close(gone @ state["v"], torch.zeros(5, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(ablation.edit(gone, one, gone, state), gone, atol=1e-5, rtol=0)
    flipped = ablation.edit(output, 2 * one, output, state)
    torch.testing.assert_close(flipped @ state["v"], -(output @ state["v"]), atol=1e-5, rtol=0)
