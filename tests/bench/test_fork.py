"""Forks: cut caches and replays against teacher forcing the whole text, on every architecture."""

from __future__ import annotations

import numpy as np
import pytest

from isokl_bench.engine.fork import THINK_END, AnswerTokens, fork, interruption
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import rollout
from isokl_registry import Answer, IsoklError
from tests import oracle
from tests.architectures import CONFIGS, build
from tests.bench.test_rollout import TEXTS, steer

ANSWER = Answer('{"value":', ("t", "T"), ("f", "F"))
POINTS = [0, 3, 7, 20]


@pytest.fixture(scope="module", params=list(CONFIGS))
def lm(request):
    return build(request.param)


def expect(lm, prompts, tokens, steering, doses, answer):
    """The oracle's log masses, [2, dose, prompt, fork]."""
    want = np.full((2, len(doses), len(prompts), len(POINTS)), np.nan)
    for (d, p, f), _ in np.ndenumerate(want[0]):
        row = [t for t in tokens[d, p].tolist() if t >= 0]
        reached = len(row) - (bool(row) and row[-1] in lm.eos)
        if POINTS[f] <= reached:
            reply = row[: POINTS[f]]
            join = "\n\n" if POINTS[f] else ""
            ids = [*prompts[p], *reply, *lm.chat.encode(join + answer.prefill)]
            words = [answer.first, answer.second]
            want[:, d, p, f] = oracle.answer_log_probs(lm.model, lm.blocks, steering, doses[d], ids, words)
    return want


def test_forks_equal_oracle(lm, monkeypatch):
    steering, doses = steer(lm, "mean_diff"), [0.0, 1.2]
    prompts = [lm.chat.ids(text) for text in TEXTS]
    tokens = rollout(lm, prompts, steering, doses, 20).tokens
    tokens[1, 1, 5:] = -1
    tokens[1, 1, 4] = lm.eos[0]  # a row that ended: 4 tokens, then EOS
    answer = AnswerTokens.of(ANSWER, lm)
    want = expect(lm, prompts, tokens, steering, doses, answer)
    for rows in (10_000, 5):  # packing must not matter
        monkeypatch.setattr(LanguageModel, "max_rows", lambda *a, rows=rows, **k: rows)
        found = fork(lm, prompts, tokens, steering, doses, POINTS, answer)
        np.testing.assert_allclose(found.log_mass_first, want[0], atol=1e-4)
        np.testing.assert_allclose(found.log_mass_second, want[1], atol=1e-4)
    assert np.isnan(found.log_mass_first[1, 1]).tolist() == [False, False, True, True]
    assert np.isfinite(found.logit_first[0]).all()


@pytest.mark.parametrize(
    ("prompt", "reply", "text"),
    [
        ("…assistant\n", "", ""),
        ("…assistant\n", "Hello", "\n\n"),
        ("…assistant\n", "<think>\nSo", THINK_END + "\n\n"),
        ("…assistant\n", "<think>\nSo\n</think>\n\nYes", "\n\n"),
        ("…assistant\n<think>\n", "", THINK_END + "\n\n"),
        ("…assistant\n<think>\n", "So", THINK_END + "\n\n"),
        ("…assistant\n<think>\n", "So</think>", "\n\n"),
        ("say <think> aloud …assistant\n", "Hello", "\n\n"),
    ],
)
def test_interruption_closes_open_thinking(prompt, reply, text):
    assert interruption(prompt, reply, len(reply)) == text


def test_answer_tokens(tiny):
    lm = build("llama")
    found = AnswerTokens.of(Answer(":", (" yes", "Y", "y"), (" no", "N")), lm)
    ids = lm.chat.encode
    assert (found.first, found.second) == (
        [ids("Y")[0], ids("y")[0]],
        [ids("N")[0]],
    )  # single tokens are preferred
    with pytest.raises(IsoklError, match="with the same token"):
        AnswerTokens.of(Answer(":", (" yes",), (" no",)), lm)  # both begin with the space byte
    one = AnswerTokens.of(Answer(":", (" true",), (" false",)), tiny)
    assert len(one.first) == len(one.second) == 1
