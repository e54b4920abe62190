"""SmolLM2: the engine against the slow oracle, and one stored run read again with nothing but transformers."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.torch
import torch

import isokl_bench
from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.fork import fork
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import rollout
from isokl_registry import REPLY_END
from tests import oracle
from tests.steerings import steer

TOKENS = 8


@pytest.fixture(scope="module")
def lm(registry):
    model = registry.model("smollm2")
    return LanguageModel(model.load(device=torch.device("cpu"), dtype=torch.float32))


@pytest.fixture(scope="module")
def behavior(registry):
    return registry.behavior("sentiment").load("plain")


def test_rollout_and_forks_equal_the_oracle(lm, behavior):
    steering, doses = steer(lm, "mean_diff"), [0.0, 30.0]
    prompts = [lm.chat.ids(prompt.text) for prompt in behavior.prompts[:2]]
    found = rollout(lm, prompts, steering, doses, TOKENS, keep_caches=True)
    answer = AnswerTokens.of(behavior.answer, lm)
    forks = fork(lm, prompts, found.tokens, steering, doses, [0, 5, REPLY_END], answer, found.snapshots)
    assert found.kl[1].max() > 0.01
    for (d, p), _ in np.ndenumerate(found.tokens[..., 0]):
        want = oracle.trajectory(lm.model, lm.blocks, steering, doses[d], prompts[p], TOKENS, lm.eos)
        np.testing.assert_array_equal(found.tokens[d, p], want["tokens"])
        np.testing.assert_allclose(found.kl[d, p], want["kl"], atol=1e-4)
        np.testing.assert_allclose(found.nll[d, p], want["nll"], atol=1e-4)
        for column, point in enumerate((0, 5, TOKENS)):
            reply = found.tokens[d, p, :point].tolist()
            suffix = lm.chat.encode(("\n\n" if point else "") + behavior.answer.prefill)
            ids, words = [*prompts[p], *reply, *suffix], [answer.first, answer.second]
            log_p = oracle.answer_log_probs(lm.model, lm.blocks, steering, doses[d], ids, words)
            np.testing.assert_allclose(forks.log_mass_first[d, p, column], log_p[0], atol=1e-4)
            np.testing.assert_allclose(forks.log_mass_second[d, p, column], log_p[1], atol=1e-4)


def test_a_stored_run_by_hand(lm, tmp_path, registry):
    """What the store says of two holdout prompts, from the vector in the store, with transformers alone."""
    record = isokl_bench.run(
        "smollm2",
        "mean_diff",
        db=tmp_path / "runs.db",
        fit_prompts=4,
        calibration_prompts=2,
        holdout_prompts=2,
        window=TOKENS,
        tolerance=0.5,
        alphas=(0.0, 1.0),
        metrics=(
            "target_logit[window=5]",
            "base_nll[window=8]",
            "branch_pmass[window=5]",
            "kl_trajectory[window=8]",
        ),
    )
    model, tokenizer = lm.model, lm.tokenizer
    vector = next(iter(safetensors.torch.load(record.steering_bytes).values()))
    layer, coefficient = record.config["layers"][0], record.coefficient

    def log_probs(ids, alpha):
        handle = model.model.layers[layer].register_forward_hook(
            lambda module, args, output: output + alpha * coefficient * vector
        )
        with torch.inference_mode():
            logits = model(torch.tensor([ids])).logits[0]
        handle.remove()
        return logits.double().log_softmax(-1)

    def encode(text):
        return tokenizer.encode(text, add_special_tokens=False)

    def answers(ids, alpha, join=""):
        """Probabilities of true and false as the next word."""
        at = log_probs([*ids, *encode(join + '{"is_good":')], alpha)[-1].exp()
        words = [[form.format(w) for form in ("{}", " {}", '"{}', ' "{}')] for w in ("true", "false")]
        spelled = [
            {*forms, *(form.replace("true", "True").replace("false", "False") for form in forms)}
            for forms in words
        ]
        return [sum(float(at[t[0]]) for w in side if len(t := encode(w)) == 1) for side in spelled]

    kl = record.array("kl_trajectory[window=8]", "kl")
    nll = record.array("base_nll[window=8]", "nll")[..., 0]
    pmass = record.array("branch_pmass[window=5]", "pmass")
    ratio = record.array("target_logit[window=5]", "log_ratio")[..., 0]
    texts = [row["text"] for row in record.data["prompts"] if row["split"] == "holdout"]
    assert len(texts) == 2
    for p, text in enumerate(texts):
        messages = [{"role": "user", "content": text}]
        prompt = encode(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        start = {}
        for a, alpha in enumerate((0.0, 1.0)):
            ids = list(prompt)
            for _ in range(TOKENS):
                ids.append(int(log_probs(ids, alpha)[-1].argmax()))
            steered, base = (log_probs(ids, x)[len(prompt) - 1 : -1] for x in (alpha, 0.0))
            np.testing.assert_allclose(kl[a, p], (steered.exp() * (steered - base)).sum(-1), atol=1e-4)
            written = base.gather(-1, torch.tensor(ids[len(prompt) :])[:, None])
            assert nll[a, p] == pytest.approx(-float(written.mean()), abs=1e-4)
            start[a] = answers(prompt, alpha)
            later = answers(ids[: len(prompt) + 5], alpha, "\n\n")
            np.testing.assert_allclose(pmass[a, p], [sum(start[a]), sum(later)], atol=1e-4)
        change = np.log(start[1][0] / start[1][1]) - np.log(start[0][0] / start[0][1])
        assert ratio[1, p] == pytest.approx(change, abs=1e-3)
