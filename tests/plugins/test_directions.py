"""Methods that fit one direction, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from isokl_registry import Contrast, Site

N, D = 12, 16


def contrast(seed: int = 0) -> Contrast:
    generator = torch.Generator().manual_seed(seed)
    positive, negative = (torch.randn(N, D, generator=generator) for _ in range(2))
    positive[:, 0] += 2.0
    return Contrast(positive, negative, Site(1), torch.nn.Identity(), seed)


def rows(b: int = 5, s: int = 3) -> torch.Tensor:
    return torch.randn(b, s, D, generator=torch.Generator().manual_seed(1))


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


@pytest.mark.parametrize("name", ["mean_diff", "pca", "directional_ablation"])
def test_zero_contrast_is_refused(registry, name):
    same = contrast()
    with pytest.raises(ValueError, match="contrast is zero"):
        registry.create("method", name).fit(dataclasses.replace(same, negative=same.positive))
