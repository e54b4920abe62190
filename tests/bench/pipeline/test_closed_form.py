"""A one-block model whose KL under a known shift is worked out on paper.

Width 4, every token's embedding is (1, 1, 1, 1); the block's attention and MLP write nothing, so it is the identity.
The final norm divides by the root mean square, which is 1 here. The head gives token A the first coordinate times
ln 3 and every other token 0, and there are two tokens: p(A) = 3/4.

Steering adds 2·(1, −1, 1, −1)/2: (2, 0, 2, 0), root mean square √2, after the norm (√2, 0, √2, 0):
p'(A) = 3^√2 / (1 + 3^√2).
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from isokl_bench.engine.calibrate import Calibrator
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import rollout
from isokl_bench.engine.steering import Steering
from isokl_registry import Loaded, Site
from tests.architectures import byte_tokenizer

A = 65


@pytest.fixture(scope="module")
def paper():
    config = LlamaConfig(
        vocab_size=300, hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, rms_norm_eps=0.0, tie_word_embeddings=False, eos_token_id=None, bos_token_id=257,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name or "embed" in name else 0.0)
        model.lm_head.weight[:] = 0
        model.lm_head.weight[:, 1] = -1000.0  # every token out of the race …
        model.lm_head.weight[:2, 1] = 0.0  # … but 0 and 1
        model.lm_head.weight[0, 0] = math.log(3)
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    return LanguageModel(Loaded(model, tokenizer))


@pytest.fixture(scope="module")
def shift(registry):
    v = torch.tensor([1.0, -1.0, 1.0, -1.0]) / 2
    return Steering(registry.create("method", "mean_diff"), {Site(0): {"v": v}})


def kl(c: float) -> float:
    """KL between the two-token distributions at dose c, for c ≤ 2 (coordinate 1 is 1 − c/2, times 0 or −1000)."""
    rms = math.sqrt(1 + c * c / 4)
    q = 3.0 ** ((1 + c / 2) / rms)
    p_steered, p_base = q / (1 + q), 0.75
    return p_steered * math.log(p_steered / p_base) + (1 - p_steered) * math.log(
        (1 - p_steered) / (1 - p_base)
    )


def test_numbers_on_paper(paper, shift):
    assert kl(2.0) == pytest.approx(0.016414, abs=1e-6)
    found = rollout(paper, [[5, 6, 7], [9]], shift, [0.0, 1.0], 4)
    assert found.tokens.tolist() == [[[0] * 4] * 2] * 2
    np.testing.assert_allclose(found.kl[0], 0.0, atol=1e-9)
    np.testing.assert_allclose(found.kl[1], kl(1.0), rtol=1e-4)
    np.testing.assert_allclose(found.nll, -math.log(0.75), rtol=1e-5)


def test_calibration_finds_the_root_on_paper(paper, shift, registry):
    stat = registry.create("stat", "kl_p95")
    found = Calibrator(paper, shift, [[5, 6, 7], [9]] * 20, 4, stat, target=kl(1.2), tolerance=1e-5).run(1)
    assert found.outcome == "converged"
    assert found.coefficient == pytest.approx(1.2, rel=2e-3)
    # All prompts are alike, so the interval is a point.
    assert found.low == pytest.approx(found.high, rel=2e-3)
