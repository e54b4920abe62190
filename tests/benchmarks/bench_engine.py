"""The engine beside the oracle, or beside the bare model."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isokl_bench.engine.answers import AnswerTokens, interruption
from isokl_bench.engine.fork import fork
from isokl_bench.engine.rollout import rollout
from isokl_bench.engine.steering import Steering
from isokl_registry import Site
from tests import oracle
from tests.benchmarks import subjects
from tests.benchmarks.conftest import LINES, Line, timed
from tests.benchmarks.subjects import REAL, TARGET, TOLERANCE

TINY = ["tiny-qwen", "tiny-llama", "tiny-gemma"]


@pytest.mark.parametrize("model", TINY)
def test_calibrate_4(model, beside):
    subject = subjects.tiny(model, 4)
    found, (dose, tries) = beside(f"calibrate {model}, N = 4", subject.calibrate, subject.bisect, "≥ 25 ×")
    assert subject.kl_p95(found.coefficient) == pytest.approx(found.value, abs=1e-4)
    assert found.outcome == "jump" or found.value == pytest.approx(TARGET, abs=TOLERANCE)
    assert found.coefficient == pytest.approx(dose, rel=0.1)
    print(f"{model}: {tries} evaluations by bisection")


@pytest.mark.parametrize("model", TINY)
def test_calibrate_32(model, beside):
    few, many = subjects.tiny(model, 4), subjects.tiny(model, 32)
    found, _ = beside(f"calibrate {model}, N = 32, oracle N = 4", many.calibrate, few.bisect, "≥ 1 ×")
    assert many.kl_p95(found.coefficient) == pytest.approx(found.value, abs=1e-3)


def test_calibrate_large(beside):
    """The reference is one evaluation of the oracle times the number that bisection needs."""
    subject = subjects.random_qwen(4)
    _, tries = subject.bisect(subject.kl_p95_by_engine)  # the engine's numbers are the oracle's
    found, value = beside(
        f"calibrate the 0.6 B shape, N = 4 (one oracle evaluation × {tries})",
        subject.calibrate,
        lambda: subject.kl_p95(1000.0),
        "≥ 8 ×",
        times=(3, 1),
        scale=tries,
    )
    assert value == pytest.approx(subject.kl_p95_by_engine(1000.0), abs=1e-3)
    assert subject.kl_p95(found.coefficient) == pytest.approx(found.value, abs=1e-3)
    assert found.outcome == "converged"


def test_branch_pmass(beside):
    """Forks of rollouts that exist already, beside one full forward pass per fork."""
    subject = subjects.tiny("tiny-qwen", 8)
    lm, points = subject.lm, list(range(0, 51, 5))
    answer = AnswerTokens.of(subjects.plan("tiny-qwen", 8).prompts.answer, lm)
    doses = [alpha * subject.calibrate().coefficient for alpha in (0.0, 1.0, 2.0)]
    full = rollout(lm, subject.prompts, subject.steering, doses, 50, keep_caches=True)
    tokens = full.tokens
    words = [answer.first, answer.second]

    def one_by_one() -> np.ndarray:
        want = np.full((len(doses), len(subject.prompts), len(points)), np.nan)
        for d, p, f in np.ndindex(*want.shape):
            row = [token for token in tokens[d, p].tolist() if token >= 0]
            if points[f] <= len(row) - (bool(row) and row[-1] in lm.eos):
                reply = row[: points[f]]
                text = interruption(
                    lm.tokenizer.decode(subject.prompts[p]), lm.tokenizer.decode(reply), points[f]
                )
                ids = [*subject.prompts[p], *reply, *lm.chat.encode(text + answer.prefill)]
                mass = oracle.answer_log_probs(lm.model, lm.blocks, subject.steering, doses[d], ids, words)
                want[d, p, f] = np.exp(mass).sum()
        return want

    found, want = beside(
        "branch_pmass, 8 prompts, 11 forks, 3 alphas",
        lambda: fork(lm, subject.prompts, tokens, subject.steering, doses, points, answer, full.snapshots),
        one_by_one,
        "≥ 25 ×",
    )
    got = np.exp(found.log_mass_first) + np.exp(found.log_mass_second)
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_calibrate_real(beside):
    """The reference is one evaluation of the oracle times the number that bisection needs."""
    subject = subjects.real(4)
    found = subject.calibrate()
    _, tries = subject.bisect(subject.kl_p95_by_engine)  # the engine's numbers are the oracle's
    again, value = beside(
        f"calibrate {REAL}, N = 4 (one oracle evaluation × {tries})",
        subject.calibrate,
        lambda: subject.kl_p95(found.coefficient),
        "≥ 15 ×",
        times=(3, 1),
        scale=tries,
    )
    assert again.coefficient == found.coefficient
    assert value == pytest.approx(found.value, abs=1e-3)


def test_overhead():
    overhead("tiny-qwen", subjects.tiny("tiny-qwen", 32), window=64, times=6)


def test_overhead_real():
    overhead(REAL, subjects.real(16), window=16, times=4)


def overhead(name: str, subject: subjects.Subject, window: int, times: int) -> None:
    """Steered at the first block, one dose, no two rows alike and none ending: the steered and as many
    unsteered rows go through all blocks but the first, as twice the rows do in the bare model."""
    lm = subject.lm
    lm.eos = ()
    (state,) = subject.steering.state.values()
    steering = Steering(subject.steering.method, {Site(0): state})
    longest = max(map(len, subject.prompts))

    @torch.inference_mode()
    def bare() -> None:
        ids, mask = lm.pad_rows(subject.prompts + subject.prompts)
        cache = lm.new_cache()
        for _ in range(window):
            positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
            logits = lm.model(
                input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache,
                use_cache=True, logits_to_keep=1,
            ).logits  # fmt: skip
            ids = logits[:, -1].argmax(-1, keepdim=True)
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        assert mask.shape[1] == longest + window

    def mine() -> None:
        rollout(lm, subject.prompts, steering, [1.0], window)

    # Alternating: the machine drifts.
    pairs = [(timed(mine, 1)[0], timed(bare, 1)[0]) for _ in range(times)][1:]
    own, other = (float(np.median(part)) for part in zip(*pairs, strict=True))
    ratio = float(np.median([a / b for a, b in pairs]))
    LINES.append(
        Line(
            f"rollout against bare `model(…)` calls, {name}",
            f"{own:.3g} s",
            f"{other:.3g} s",
            f"{ratio:.2f}",
            "≤ 1.15",
        )
    )
