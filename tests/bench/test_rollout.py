"""The lockstep engine against the oracle, on every architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isokl_bench.engine.rollout import Sampler, rollout
from isokl_bench.engine.steering import Steering
from isokl_registry import Site, load_registry
from tests import oracle
from tests.architectures import CONFIGS, build

TEXTS = [
    "Tell me of the sea.",
    "Hi",
    "What is the longest river that you have seen, and why do you think so?",
]
WINDOW = 24
METHODS = ["mean_diff", "directional_ablation"]


def steer(lm, spec: str, layers=(1, 2), seed: int = 0) -> Steering:
    """A steering along a random direction, scaled so that dose 1 is a visible shift."""
    generator = torch.Generator().manual_seed(seed)
    width = lm.config.hidden_size
    v = torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0)
    return Steering(load_registry().create("method", spec), {Site(layer): {"v": v} for layer in layers})


@pytest.fixture(scope="module", params=list(CONFIGS))
def lm(request):
    return build(request.param)


@pytest.mark.parametrize("method", METHODS)
def test_lockstep_equals_oracle(lm, method):
    steering = steer(lm, method)
    prompts = [lm.chat.ids(text) for text in TEXTS]
    doses = [0.0, 0.4, 1.5]
    found = rollout(lm, prompts, steering, doses, WINDOW)
    for d, dose in enumerate(doses):
        for p, prompt in enumerate(prompts):
            want = oracle.trajectory(lm.model, lm.blocks, steering, dose, prompt, WINDOW, lm.eos)
            n = len(want["tokens"])
            assert found.tokens[d, p, :n].tolist() == want["tokens"].tolist()
            assert (found.tokens[d, p, n:] == -1).all()
            for name in ("kl", "nll", "entropy"):
                got = getattr(found, name)[d, p]
                np.testing.assert_allclose(got[:n], want[name], atol=1e-4)
                assert np.isnan(got[n:]).all()
    assert (found.kl[0] == 0).all() or np.nanmax(found.kl[0]) < 1e-6
    assert np.nanmax(found.kl[2]) > 1e-3
    assert found.complete.all()


def test_packing_never_changes_a_result(lm, monkeypatch):
    steering = steer(lm, "mean_diff")
    prompts = [lm.chat.ids(text) for text in TEXTS]
    for sampler in (None, Sampler(3)):
        whole = rollout(lm, prompts, steering, [0.3, 1.0], 10, sampler=sampler)
        monkeypatch.setattr(type(lm), "max_rows", lambda self, length, keep=1: 4)
        split = rollout(lm, prompts, steering, [0.3, 1.0], 10, sampler=sampler)
        monkeypatch.undo()
        assert (whole.tokens == split.tokens).all()
        np.testing.assert_allclose(whole.kl, split.kl, atol=1e-4)
