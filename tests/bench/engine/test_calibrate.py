"""The search: against the oracle, on stats of every shape, and with early exit on and off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isokl_bench.engine import calibrate
from isokl_bench.engine.calibrate import Calibrator
from isokl_bench.engine.rollout import Rollout, rollout
from isokl_bench.engine.steering import Steering
from isokl_registry import IsoklError, Method, TokenValues
from tests import oracle
from tests.architectures import build
from tests.steerings import TEXTS, steer

WINDOW = 12


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "gpt2"])
def test_coefficient_is_the_oracles(name, registry):
    lm = build(name)
    steering = steer(lm, "mean_diff")
    prompts = [lm.chat.ids(text) for text in TEXTS]

    def stat(dose: float) -> float:
        return oracle.kl_p95(lm.model, lm.blocks, steering, dose, prompts, WINDOW, lm.eos)

    target = stat(0.7)
    tolerance = 0.02 * target
    stat_plugin = registry.create("stat", "kl_p95")
    found = Calibrator(lm, steering, prompts, WINDOW, stat_plugin, target, tolerance).run(1)
    assert found.outcome == "converged"
    assert stat(found.coefficient) == pytest.approx(found.value, abs=1e-4)
    assert abs(stat(found.coefficient) - target) <= tolerance
    dose, _, _ = oracle.bisect(stat, target, tolerance, 0.1, 10)
    assert found.coefficient == pytest.approx(dose, rel=0.1)
    assert found.low is None  # 36 tokens of three prompts do not tell how high the percentile may be
    assert found.coefficient <= found.high


@dataclass(frozen=True)
class Broken(Method):
    """Gives NaN above a dose."""

    name: ClassVar[str] = "broken"
    above: float = 0.0

    def fit(self, contrast):
        raise NotImplementedError

    def edit(self, output, dose, input, state):
        return torch.where(dose > self.above, torch.nan, output + dose * state["v"])


@pytest.mark.parametrize("spec", ["kl_p95", "nll"])
def test_a_method_that_always_breaks_is_an_error(spec, registry):
    lm = build("llama")
    steering = Steering(Broken(), steer(lm, "mean_diff").state)
    prompts = [lm.chat.ids(text) for text in TEXTS]
    with pytest.raises(IsoklError, match="NaN or infinity after block 1"):
        Calibrator(lm, steering, prompts, WINDOW, registry.create("stat", spec), 1.0, 0.05).run(1)


def test_nothing_is_tried_beyond_doses_that_break(registry):
    lm = build("llama")
    steering = Steering(Broken(above=0.02), steer(lm, "mean_diff").state)
    prompts = [lm.chat.ids(text) for text in TEXTS]
    found = Calibrator(lm, steering, prompts, WINDOW, registry.create("stat", "kl_p95"), 1.0, 0.05).run(1)
    assert found.outcome == "jump"
    assert found.coefficient <= 0.02 < found.dose_above
    assert found.value_above == math.inf
    assert found.high is None
    assert len({e.dose for e in found.evaluations if e.round > found.rounds}) <= 1


class FakeLM:
    """No model at all: the search is tested on stats whose shape is known."""


def search(monkeypatch, registry, shape, *, target=1.0, method="mean_diff", sign=1):
    """Calibrate where every token's KL at dose c is shape(|c|)."""

    def values(prompts, doses, tokens):
        return np.stack([np.full((len(prompts), tokens), shape(abs(d)) if d else 0.0) for d in doses])

    def fake(lm, prompts, steering, doses, window, *, too_strong=None, drafts=None, tell=None):
        kl = values(prompts, doses, window)
        zeros = np.zeros_like(kl)
        complete = np.array([not (too_strong and too_strong(d, TokenValues(k, k))) for d, k in enumerate(kl)])
        finite = np.isfinite(kl).all((1, 2))
        return Rollout(zeros.astype(int), kl, zeros, zeros, complete, finite)

    def look(lm, prompts, steering, doses, positions):
        kl = np.nan_to_num(values(prompts, doses, positions), nan=np.inf)
        return [TokenValues(k, k) for k in kl], TokenValues(np.zeros_like(kl[0]), np.zeros_like(kl[0]))

    with monkeypatch.context() as patch:
        patch.setattr(calibrate, "rollout", fake)
        patch.setattr(calibrate, "teacher_forced", look)
        patch.setattr(calibrate, "explain_nonfinite", lambda *args: "NaN after block 0 at dose 0.0001")
        steering = type("S", (), {"method": registry.create("method", method)})()
        stat = registry.create("stat", "kl_p95")
        return Calibrator(FakeLM(), steering, [[1]] * 32, 20, stat, target, 0.05).run(sign)


@settings(max_examples=15, deadline=None)
@given(power=st.floats(0.3, 4), root=st.floats(-3, 5), target=st.floats(0.1, 5))
def test_converges_on_any_power_law(power, root, target):
    from isokl_registry import load_registry

    c0 = 10**root
    with pytest.MonkeyPatch.context() as patch:
        found = search(patch, load_registry(), lambda c: target * (c / c0) ** power, target=target)
    assert found.outcome == "converged"
    assert abs(found.value - target) <= 0.05
    assert found.value == pytest.approx(target * (found.coefficient / c0) ** power)
    assert found.rounds <= 3
    assert found.slope == pytest.approx(power)
    assert found.pool == 32 * 20
    assert found.low <= c0 * 1.001
    assert found.high >= c0 * 0.999


def test_jump_returns_the_largest_dose_under_the_target(monkeypatch, registry):
    found = search(monkeypatch, registry, lambda c: 0.4 if c <= 7.5 else 3.0)
    assert found.outcome == "jump"
    assert found.value == 0.4
    assert found.value_above == 3.0
    assert found.coefficient <= 7.5 < found.dose_above
    assert found.dose_above / found.coefficient - 1 < calibrate.NARROW
    assert found.slope is None


@settings(max_examples=15, deadline=None)
@given(wave=st.floats(0, 0.9), phase=st.floats(0, 6), power=st.floats(0.5, 3))
def test_on_waves_the_first_crossing_is_taken_and_the_interval_holds_it(wave, phase, power):
    from isokl_registry import load_registry

    def shape(c):
        return c**power * (1 + wave * np.sin(6 * np.log(c) + phase))

    with pytest.MonkeyPatch.context() as patch:
        found = search(patch, load_registry(), shape)
    assert found.outcome in ("converged", "jump")
    assert found.value <= 1.05
    before = [e for e in found.evaluations if e.dose <= found.coefficient and e.round <= found.rounds]
    assert all(e.value <= 1.05 for e in before)
    assert found.low is None or found.low <= found.coefficient
    assert found.high is None or found.coefficient <= found.high


def test_budget_not_reached(monkeypatch, registry):
    found = search(monkeypatch, registry, lambda c: 0.5 * c / (1 + c))
    assert found.outcome == "budget_not_reached"
    assert found.coefficient == pytest.approx(calibrate.LARGEST)
    assert found.low is None


def test_budget_exceeded(monkeypatch, registry):
    found = search(monkeypatch, registry, lambda c: 2.0 + c)
    assert found.outcome == "budget_exceeded"
    assert found.coefficient == pytest.approx(calibrate.SMALLEST)


def test_negative_sign_has_negative_doses(monkeypatch, registry):
    found = search(monkeypatch, registry, lambda c: c * c, sign=-1)
    assert found.coefficient == pytest.approx(-1, rel=0.05)
    assert found.low <= found.coefficient <= found.high < 0
    assert all(e.dose < 0 for e in found.evaluations)


def test_infinite_logits_count_as_too_strong(monkeypatch, registry):
    found = search(monkeypatch, registry, lambda c: c * c if c < 50 else math.nan)
    assert found.outcome == "converged"


def test_beyond_a_dose_that_breaks_none_is_run_to_its_end(monkeypatch, registry):
    """Whatever order batches come in: a dose beyond one that breaks later may have ended before."""

    def shape(dose):
        return math.nan if 3 < dose < 4 else dose

    def complete(*doses):
        found = {}
        with monkeypatch.context() as patch:
            patch.setattr(Calibrator, "_first", lambda self, sign, low, high: list(doses))
            patch.setattr(Calibrator, "_next", lambda self, low, high: ([], []))
            for e in search(patch, registry, shape).evaluations:
                found[e.dose] = e.complete
        return found

    assert complete(0.5, 3.5, 4.5, 6.0) == {0.5: True, 3.5: False, 4.5: False, 6.0: False}
    assert complete(0.5, 4.5, 6.0) == {0.5: True, 4.5: True, 6.0: False}


def test_no_finite_dose_is_an_error(monkeypatch, registry):
    with pytest.raises(IsoklError, match="NaN after block 0 at dose"):
        search(monkeypatch, registry, lambda c: math.nan)


@pytest.mark.parametrize("spec", ["kl_p95", "kl_mean", "kl_max", "nll"])
def test_early_exit_never_changes_the_outcome(spec, registry, monkeypatch, tiny):
    monkeypatch.setattr(calibrate, "ABOVE", 5.0)  # far enough for some doses to be too strong
    prompts = [tiny.chat.ids(text) for text in TEXTS]
    stat = registry.create("stat", spec)
    target = 2.0 if spec == "kl_max" else 0.3

    def run():
        return Calibrator(tiny, steer(tiny, "mean_diff"), prompts, WINDOW, stat, target, 0.05).run(1)

    early = run()
    monkeypatch.setattr(
        calibrate, "rollout", lambda *args, too_strong=None, **kwargs: rollout(*args, **kwargs)
    )
    full = run()
    strong = [e for e in early.evaluations if e.round == 1 and not e.value <= 2 * target + 0.05 - 1e-9]
    assert [e.complete for e in strong] == [True] + [False] * (len(strong) - 1)  # the least is run to its end
    assert len(strong) > 1
    assert (early.outcome, early.rounds) == (full.outcome, full.rounds)
    for name in ("coefficient", "value", "low", "high", "dose_above", "value_above", "pool", "slope"):
        one, other = getattr(early, name), getattr(full, name)
        close = (
            1e-3 if name == "slope" else 1e-5
        )  # rows are packed otherwise; a slope is of small differences
        assert one == other or one == pytest.approx(other, rel=close)
    for one, other in zip(
        early.evaluations, full.evaluations, strict=True
    ):  # of a dose too strong, the bound is kept
        assert (one.dose, one.value) == pytest.approx((other.dose, other.value), rel=1e-5, abs=1e-6)
        assert (one.round, one.tokens, one.complete) == (other.round, other.tokens, other.complete)
