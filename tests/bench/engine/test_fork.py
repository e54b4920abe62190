"""Forks: branched rows, snapshots and replays against teacher forcing, on every architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isokl_bench.engine.answers import THINK_END, AnswerTokens, interruption
from isokl_bench.engine.fork import fork
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import rollout
from isokl_bench.engine.steering import Steering
from isokl_bench.pipeline.intervention import Ask, Steered
from isokl_bench.pipeline.session import MeasureSession
from isokl_registry import REPLY_END, Answer, IsoklError, Prompt
from tests import oracle
from tests.architectures import CONFIGS, build
from tests.steerings import ANSWER, POINTS, TEXTS, steer


@pytest.fixture(scope="module", params=list(CONFIGS))
def lm(request):
    return build(request.param)


def expect(lm, prompts, tokens, steering, doses, answer):
    """The oracle's log masses, [2, dose, prompt, fork]."""
    want = np.full((2, len(doses), len(prompts), len(POINTS)), np.nan)
    for (d, p, f), _ in np.ndenumerate(want[0]):
        row = [t for t in tokens[d, p].tolist() if t >= 0]
        reached = len(row) - (bool(row) and row[-1] in lm.eos)
        point = reached if POINTS[f] == REPLY_END else POINTS[f]
        if point <= reached:
            reply = row[:point]
            join = "\n\n" if point else ""
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
    for rows, piece, forks in ((10_000, 512, 1024), (5, 7, 30)):  # batches must not matter
        monkeypatch.setattr(LanguageModel, "max_rows", lambda *a, rows=rows, **k: rows)
        monkeypatch.setattr("isokl_bench.engine.fork.STEP", piece)
        monkeypatch.setattr("isokl_bench.engine.fork.FORKS", forks)
        found = fork(lm, prompts, tokens, steering, doses, POINTS, answer)
        np.testing.assert_allclose(found.log_mass_first, want[0], atol=1e-4)
        np.testing.assert_allclose(found.log_mass_second, want[1], atol=1e-4)
    assert np.isnan(found.log_mass_first[1, 1]).tolist() == [False, False, True, True, False]
    assert np.isfinite(found.logit_first[0]).all()


@pytest.mark.parametrize("linear", ["", "mlp.down_proj|mlp.c_proj"])
def test_forks_of_snapshots_equal_oracle(lm, linear, monkeypatch):
    """Rows that ended early, in batches of every size, and fork points short of the window."""
    steering, doses, window = steer(lm, "mean_diff"), [0.0, 1.2], 20
    if linear:
        sites = lm.sites([1, 2], [linear])
        steering = Steering(steering.method, dict(zip(sites, steering.state.values(), strict=True)))
    prompts = [lm.chat.ids(text) for text in TEXTS]
    answer = AnswerTokens.of(ANSWER, lm)
    plain = rollout(lm, prompts, steering, doses, window)
    end = int(plain.tokens[1, 0, 6])
    monkeypatch.setattr(lm, "eos", (*lm.eos, end))  # one row at least ends at its seventh token
    fed: list[int] = []
    monkeypatch.setattr(lm.model, "forward", counting(lm.model.forward, fed))
    for rows in (10_000, 6, 2):
        monkeypatch.setattr(LanguageModel, "max_rows", lambda *a, rows=rows, **k: rows)
        full = rollout(lm, prompts, steering, doses, window, keep_caches=True)
        assert sorted(place for one in full.snapshots for place in one.rows) == (
            list(np.ndindex(2, len(prompts))) if lm.takes_tree_masks else []
        )
        fed.clear()
        found = fork(lm, prompts, full.tokens, steering, doses, POINTS, answer, full.snapshots)
        longest = max(len(lm.chat.encode(join + answer.prefill)) for join in ("", "\n\n"))
        if lm.takes_tree_masks:  # nothing but forks, and one token: a rollout does not read its last
            assert max(fed) <= 1 + len(POINTS) * longest
        want = expect(lm, prompts, full.tokens, steering, doses, answer)
        np.testing.assert_allclose(found.log_mass_first, want[0], atol=1e-4)
        np.testing.assert_allclose(found.log_mass_second, want[1], atol=1e-4)
        again = fork(lm, prompts, full.tokens, steering, doses, POINTS[:2], answer, full.snapshots)
        np.testing.assert_allclose(again.log_mass_first, want[0, ..., :2], atol=1e-4)
    assert np.isnan(found.log_mass_first[1, 0, 3:]).tolist() == [True, False]


def test_snapshots_are_taken_only_where_they_fit(monkeypatch):
    lm = build("llama")
    steering, prompts = steer(lm, "mean_diff"), [lm.chat.ids(text) for text in TEXTS]
    needed = len(prompts) * lm.cache_bytes(max(map(len, prompts)) + 8)
    for memory, rows in ((4 * needed, 0), (4 * needed + 1, len(prompts))):
        monkeypatch.setattr(lm, "free_memory", lambda memory=memory: memory)
        monkeypatch.setattr(lm, "max_rows", lambda *a, **k: 100)
        found = rollout(lm, prompts, steering, [1.2], 8, keep_caches=True).snapshots
        assert sum(len(part.rows) for part in found) == rows


@pytest.mark.parametrize("attention", ["eager", "another"])
def test_forks_under_other_attention(attention, monkeypatch):
    """Eager attention takes the same masks; one that is not known to take any has every fork replayed."""
    lm = build("gemma3")
    steering, prompts = steer(lm, "mean_diff"), [lm.chat.ids(text) for text in TEXTS]
    tokens = rollout(lm, prompts, steering, [1.2], 20).tokens
    answer = AnswerTokens.of(ANSWER, lm)
    want = fork(lm, prompts, tokens, steering, [1.2], POINTS, answer)
    if attention == "eager":
        lm.model.set_attn_implementation("eager")
    else:
        monkeypatch.setattr(LanguageModel, "takes_tree_masks", False)
        monkeypatch.setattr(lm, "forward_branched", None)
    found = fork(lm, prompts, tokens, steering, [1.2], POINTS, answer)
    np.testing.assert_allclose(found.log_mass_first, want.log_mass_first, atol=1e-4)


def test_where_memory_runs_out_the_snapshots_go_first(monkeypatch):
    lm = build("llama")
    steering, prompts = steer(lm, "mean_diff"), [lm.chat.ids(text) for text in TEXTS]
    want = rollout(lm, prompts, steering, [0.0, 1.2], 8)

    def snapshot(*args):
        raise torch.OutOfMemoryError

    monkeypatch.setattr("isokl_bench.engine.lockstep.snapshot", snapshot)
    found = rollout(lm, prompts, steering, [0.0, 1.2], 8, keep_caches=True)
    assert found.snapshots == []
    np.testing.assert_array_equal(found.tokens, want.tokens)
    assert lm.row_limit >= len(prompts)  # no batch was made smaller


def test_points_come_in_any_order_and_equal_rows_agree(monkeypatch):
    lm = build("gemma3")
    steering, prompts = steer(lm, "mean_diff"), [lm.chat.ids(text) for text in TEXTS]
    answer, doses = AnswerTokens.of(ANSWER, lm), [0.0, 1.2, 1.2]
    full = rollout(lm, prompts, steering, doses, 12, keep_caches=True)
    found, ordered = (
        fork(lm, prompts, full.tokens, steering, doses, points, answer, full.snapshots).log_mass_first
        for points in ([12, 0, 7, 0], [0, 7, 12])
    )
    np.testing.assert_allclose(found, ordered[..., [2, 0, 1, 0]], atol=1e-5)
    np.testing.assert_allclose(found[1], found[2], atol=1e-5)


def test_a_session_of_some_of_the_alphas_uses_their_caches(monkeypatch):
    """Of a rollout at an alpha that broke, the others are measured."""
    lm = build("llama")
    intervention = Steered(lm, steer(lm, "mean_diff"), 1.2)
    ask = Ask(TEXTS, [0.0, 0.5, 1.0], 8)
    (full,) = intervention.rollouts([ask], keep_caches=True)
    answer, prompts = AnswerTokens.of(ANSWER, lm), [Prompt(text, True) for text in TEXTS]
    want = MeasureSession(intervention, ask.alphas, prompts, answer, full).forks([0, 4]).log_mass_first
    monkeypatch.setattr("isokl_bench.engine.fork._Reader._read_texts", None)  # nothing is read again
    session = MeasureSession(intervention, [0.0, 1.0], prompts, answer, full.at([0, 2]))
    np.testing.assert_allclose(session.forks([0, 4]).log_mass_first, want[[0, 2]], atol=1e-4)
    known = dict(session._forks)
    with pytest.raises(IsoklError, match="give it a number of tokens"):
        session.forks([REPLY_END])
    end = session.forks([0, 4, 8, REPLY_END])  # the first two are known
    assert all(session._forks[key] is values for key, values in known.items())
    window, reply_end = end.log_mass_first[..., 2], end.log_mass_first[..., 3]
    np.testing.assert_array_equal(window, reply_end)  # no reply ends before


def counting(forward, fed):
    """Notes how many tokens each row of a forward pass has."""

    def counted(*args, **kwargs):
        fed.append(kwargs["input_ids"].shape[1])
        return forward(*args, **kwargs)

    return counted


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
    assert found.first == [ids("Y")[0], ids("y")[0]]  # single tokens are preferred
    assert found.second == [ids("N")[0]]
    with pytest.raises(IsoklError, match="with the same token"):
        AnswerTokens.of(Answer(":", (" yes",), (" no",)), lm)  # both begin with the space byte
    with pytest.raises(IsoklError, match="is empty"):
        AnswerTokens.of(Answer("", ("t",), ("f",)), lm)
    quoted = [ids('"')[0]]  # a quote that begins both answers tells nothing
    assert not {*found.first, *found.second} & {*quoted}
    one = AnswerTokens.of(Answer(":", (" true",), (" false",)), tiny)
    assert len(one.first) == len(one.second) == 1
