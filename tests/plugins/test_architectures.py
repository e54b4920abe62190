"""Every method on every architecture: fitted to recorded activations, its steered text is the oracle's."""

from __future__ import annotations

import numpy as np
import pytest

from isokl_bench.engine.activations import record
from isokl_bench.engine.rollout import rollout
from isokl_bench.engine.steering import Steering
from isokl_registry import Contrast, Method, load_registry
from tests import oracle
from tests.architectures import CONFIGS, build

METHODS = [
    name for name, entry in load_registry().entries["method"].items() if issubclass(entry.component, Method)
]
TOPICS = ("sea", "moon", "bread", "rain", "clock", "garden", "violin", "road")
WINDOW = 5


@pytest.fixture(scope="module", params=list(CONFIGS))
def lm(request):
    return build(request.param)


@pytest.fixture(scope="module")
def fitted(lm):
    """Steerings by the name of their method, at the outputs of two blocks or at Linears of both."""

    def fit(name: str) -> Steering:
        method = load_registry().create("method", name)
        halves = [[lm.chat.ids(f"{mood} {topic}") for topic in TOPICS] for mood in ("Joy!", "Gloom?")]
        sites = lm.sites((1, 2), method.linears)
        positive, negative = (record(lm, half, sites) for half in halves)
        return Steering(
            method,
            {
                site: method.fit(Contrast(positive[site], negative[site], site, lm.module(site), 0))
                for site in sites
            },
        )

    return fit


@pytest.mark.parametrize("name", METHODS)
def test_steered_text_is_the_oracles(lm, fitted, name):
    steering = fitted(name)
    prompts = [lm.chat.ids(text) for text in ("Hi", "Tell me of the sea.")]
    largest = min(1.0, steering.method.dose_range[1])
    doses = [0.0, 0.3 * largest, -0.8 * largest]
    found = rollout(lm, prompts, steering, doses, WINDOW)
    for d, dose in enumerate(doses):
        for p, prompt in enumerate(prompts):
            want = oracle.trajectory(lm.model, lm.blocks, steering, dose, prompt, WINDOW, lm.eos)
            n = len(want["tokens"])
            assert found.tokens[d, p, :n].tolist() == want["tokens"].tolist()
            np.testing.assert_allclose(found.kl[d, p, :n], want["kl"], atol=2e-4)
    assert np.nanmax(np.abs(found.kl[0])) < 1e-6
    assert np.nanmax(found.kl[1:]) > 1e-7
