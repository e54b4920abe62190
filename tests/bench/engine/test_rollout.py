"""The lockstep engine against the oracle, on every architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isokl_bench.engine import lockstep
from isokl_bench.engine.rollout import rollout, rollouts
from isokl_bench.engine.sampling import Sampler
from isokl_bench.engine.steering import Steering
from isokl_bench.engine.transcript import Wanted
from isokl_registry import IsoklError, Site, load_registry
from tests import oracle
from tests.architectures import CONFIGS, build
from tests.steerings import TEXTS, steer

WINDOW = 24
METHODS = ["mean_diff", "directional_ablation"]


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
        monkeypatch.setattr(type(lm), "max_rows", lambda *a, **k: 4)
        split = rollout(lm, prompts, steering, [0.3, 1.0], 10, sampler=sampler)
        monkeypatch.undo()
        assert (whole.tokens == split.tokens).all()
        np.testing.assert_allclose(whole.kl, split.kl, atol=1e-4)


def test_drafts_change_nothing(lm, monkeypatch):
    """Right, half right, wrong, ended and missing guesses: the text is the same, read in fewer passes."""
    steering = steer(lm, "mean_diff")
    prompts = [lm.chat.ids(text) for text in TEXTS]
    doses = [0.0, 0.3, 1.0]
    want = rollout(lm, prompts, steering, doses, WINDOW)
    assert drafted(lm, prompts, steering, doses, want, want.tokens) == (1 if lm.croppable else WINDOW)
    half, ended, missing = want.tokens.copy(), want.tokens.copy(), want.tokens.copy()
    half[:, :, WINDOW // 2] += 1
    ended[:, 0, 5], ended[:, 0, 6:] = lm.eos[0], -1
    missing[1:, :, 3:] = -1
    for guess in (half, ended, missing, np.zeros_like(half), np.full_like(half, -1)):
        drafted(lm, prompts, steering, doses, want, guess)
        monkeypatch.setattr(type(lm), "max_rows", lambda *a, **k: 8)
        drafted(lm, prompts, steering, doses, want, guess)
        monkeypatch.undo()


def test_a_shared_beginning_and_pieces_change_nothing(lm, monkeypatch):
    """Prompts that begin alike are read once per dose as far as that goes, and long ones in pieces."""
    steering, doses = steer(lm, "mean_diff"), [0.0, 0.4, 1.5]
    prompts = [lm.chat.ids("We are at sea. " + text) for text in TEXTS]
    monkeypatch.setattr(lockstep, "WORTH", 10**9)
    monkeypatch.setattr(lockstep, "PIECE", 10**9)
    want = rollout(lm, prompts, steering, doses, WINDOW)
    fed = []
    monkeypatch.setattr(lockstep, "WORTH", 1)
    monkeypatch.setattr(lm, "forward", counted(lm.forward, fed), raising=False)
    for piece in (10**9, 30, 1):
        monkeypatch.setattr(lockstep, "PIECE", piece)
        fed.clear()
        same(rollout(lm, prompts, steering, doses, WINDOW), want)
        longest = max(map(len, prompts))
        rest = longest - fed[0][1]
        passes = 1 if piece == 10**9 else rest if piece == 1 else len(fed) - WINDOW
        assert sum(columns for _, columns in fed[: -WINDOW + 1]) == longest
        assert (fed[0][0], len(fed) - WINDOW) == ((1, passes) if lm.croppable else (len(prompts), 0))
        drafts = np.where(np.arange(WINDOW) == 7, 1, want.tokens)
        same(rollout(lm, prompts, steering, doses, WINDOW, drafts=drafts), want)


def counted(forward, fed):
    def counting(ids, *args, **kwargs):
        fed.append(tuple(ids.shape))
        return forward(ids, *args, **kwargs)

    return counting


def same(found, want):
    np.testing.assert_array_equal(found.tokens, want.tokens)
    for name in ("kl", "nll", "entropy"):
        np.testing.assert_allclose(getattr(found, name), getattr(want, name), atol=1e-4)


def test_rollouts_in_one_are_what_each_is_alone(lm, monkeypatch):
    """Greedy and sampled, short and long, at other doses, on prompts that some of them share."""
    steering = steer(lm, "mean_diff")
    prompts = [lm.chat.ids(text) for text in TEXTS]
    wanted = [
        Wanted(prompts, [0.0, 0.4, 1.5], WINDOW),
        Wanted(prompts[:2], [1.5, 0.0], 9),
        Wanted(prompts[1:], [0.4, 0.7], 12, Sampler(3)),
        Wanted(prompts, [0.4], 5, Sampler(3)),
        Wanted(prompts[:1], [0.4], 12, Sampler(4)),
    ]
    shares = []
    for size in (10**6, 6):
        monkeypatch.setattr(type(lm), "max_rows", lambda *a, size=size, **k: size)
        shares.append([])
        found = rollouts(lm, steering, wanted, tell=shares[-1].append)
        for one, got in zip(wanted, found, strict=True):
            same(got, rollout(lm, one.prompts, steering, one.doses, one.window, sampler=one.sampler))
    assert (found[2].tokens[0, :, :5] == found[3].tokens[0, 1:]).all()
    assert (found[3].tokens[0, 0] != found[4].tokens[0, 0, :5]).any()
    for some in shares:
        assert some == sorted(some)
        assert 0 < some[0] < some[-1] <= 1


def test_rows_that_rollouts_share_are_generated_once(tiny):
    prompts = [tiny.chat.ids(text) for text in TEXTS]
    steering, rows = steer(tiny, "mean_diff", layers=(2,)), []
    handle = tiny.blocks[3].register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    for wanted in (
        [Wanted(prompts, [1.0], 8)],
        [Wanted(prompts[:2], [1.0], 8), Wanted(prompts, [1.0, 0.0], 8)],
    ):
        rollouts(tiny, steering, wanted)
    handle.remove()
    assert rows[: len(rows) // 2] == rows[len(rows) // 2 :]


@pytest.mark.parametrize("wrong", [(1, 2), (2, 1)])
def test_drafts_of_different_length_that_are_right_equally_far(lm, wrong):
    """Rows that go on from the same text come from drafts of different length."""
    steering, doses = steer(lm, "mean_diff"), [1e-3, 2e-3]
    for prompts in ([[5, 6, 7, 8]], [[5, 6, 7, 8], [9] * 11]):
        want = rollout(lm, prompts, steering, doses, WINDOW)
        drafts = np.full_like(want.tokens, -1)
        for dose, tail in enumerate(wrong):
            drafts[dose, :, :2] = want.tokens[dose, :, :2]
            drafts[dose, :, 2 : 2 + tail] = (want.tokens[dose, :, 2 : 2 + tail] + 1) % 200
        drafted(lm, prompts, steering, doses, want, drafts)


def drafted(lm, prompts, steering, doses, want, drafts) -> int:
    """The rollout again, now with guesses, must be the same. Returns how many passes it took."""
    passes, forward = [], lm.forward
    lm.forward = lambda *args, **kwargs: passes.append(1) or forward(*args, **kwargs)
    try:
        found = rollout(lm, prompts, steering, doses, WINDOW, drafts=drafts)
    finally:
        del lm.forward
    same(found, want)
    assert found.complete.all()
    return len(passes)


def test_inner_linears_are_steered_as_by_the_oracle(lm):
    """The batch branches in front of the block when a Linear inside it is edited."""
    width = lm.config.hidden_size
    names = [
        name for name, module in lm.blocks[1].named_modules() if name.endswith(("down_proj", "mlp.c_proj"))
    ]
    v = torch.nn.functional.normalize(torch.randn(width, generator=torch.Generator().manual_seed(1)), dim=0)
    sites = {Site(1, names[0]): {"v": v}, Site(2): {"v": v}}
    steering = Steering(load_registry().create("method", "mean_diff"), sites)
    prompts = [lm.chat.ids(text) for text in TEXTS]
    found = rollout(lm, prompts, steering, [0.0, 0.8], 10)
    for d, dose in enumerate([0.0, 0.8]):
        for p, prompt in enumerate(prompts):
            want = oracle.trajectory(lm.model, lm.blocks, steering, dose, prompt, 10, lm.eos)
            n = len(want["tokens"])
            assert found.tokens[d, p, :n].tolist() == want["tokens"].tolist()
            np.testing.assert_allclose(found.kl[d, p, :n], want["kl"], atol=1e-4)


def test_a_text_is_computed_once(tiny):
    """Below the edited site a batch has a row per text, whatever doses read it; above, one unsteered row."""
    prompts = [tiny.chat.ids(text) for text in TEXTS]
    lower, upper = [], []
    handles = [
        tiny.blocks[layer].register_forward_pre_hook(lambda m, args, rows=rows: rows.append(len(args[0])))
        for layer, rows in ((2, lower), (3, upper))
    ]
    found = rollout(tiny, prompts, steer(tiny, "mean_diff", layers=(2,)), [0.0, 1e-4, 2e-4, 3e-4], 8)
    for handle in handles:
        handle.remove()
    assert (found.tokens == found.tokens[0]).all()  # such doses change no token
    assert max(lower) == len(prompts)
    # Three doses and the unsteered row, which is that of dose 0.
    assert upper == [4 * texts for texts in lower]


def test_too_strong_doses_leave_and_the_rest_is_unchanged(tiny):
    prompts = [tiny.chat.ids(text) for text in TEXTS]
    steering, doses = steer(tiny, "mean_diff", layers=(2,)), [0.5, 400.0, 1.0]
    want = rollout(tiny, prompts, steering, doses, 12)
    found = rollout(tiny, prompts, steering, doses, 12, too_strong=lambda dose, values: values.kl.max() > 3)
    assert found.complete.tolist() == [True, False, True]
    assert np.nanmax(want.kl[1]) > 3
    for dose in (0, 2):
        np.testing.assert_array_equal(found.tokens[dose], want.tokens[dose])
        np.testing.assert_allclose(found.kl[dose], want.kl[dose], atol=1e-5)


def test_out_of_memory_halves_the_batch(tiny, monkeypatch):
    prompts = [tiny.chat.ids(text) for text in TEXTS]
    steering = steer(tiny, "mean_diff")
    want = rollout(tiny, prompts, steering, [0.5, 1.0], 8)
    lines, forward = [], tiny.forward

    def small(ids, *args, **kwargs):
        logits = forward(ids, *args, **kwargs)
        if len(logits) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return logits

    monkeypatch.setattr(tiny, "forward", small, raising=False)
    monkeypatch.setattr(tiny, "notify", lines.append)
    monkeypatch.setattr(tiny, "row_limit", tiny.row_limit)
    found = rollout(tiny, prompts, steering, [0.5, 1.0], 8)
    np.testing.assert_array_equal(found.tokens, want.tokens)
    np.testing.assert_allclose(found.kl, want.kl, atol=1e-4)
    assert lines == [
        "out of memory on cpu with 6 rows: going on with 3",
        "out of memory on cpu with 3 rows: going on with 1",
    ]
    monkeypatch.setattr(tiny, "forward", fail, raising=False)
    with pytest.raises(IsoklError, match="out of memory on cpu with a single row"):
        rollout(tiny, prompts, steering, [0.5], 8)


def fail(*args, **kwargs):
    raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
