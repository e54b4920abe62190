"""Calibration on real models: against the oracle, where a method breaks, with early exit on and off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch

from isokl_bench.engine import calibrate, search
from isokl_bench.engine.calibrate import Calibrator
from isokl_bench.engine.rollout import rollout
from isokl_bench.engine.steering import Steering
from isokl_registry import IsoklError, Method
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


def test_a_negative_dose_is_a_positive_one_of_the_opposite_steering(registry, tiny):
    prompts, seen = [tiny.chat.ids(text) for text in TEXTS], []
    stat, steering = registry.create("stat", "kl_p95"), steer(tiny, "mean_diff")
    found = Calibrator(tiny, steering, prompts, WINDOW, stat, 0.3, 0.05, seen.extend).run(-1)
    assert all(e.dose < 0 for e in found.evaluations)
    assert {e.dose for e in seen} == {e.dose for e in found.evaluations}
    opposite = Calibrator(tiny, -steering, prompts, WINDOW, stat, 0.3, 0.05).run(1)
    assert found.outcome == opposite.outcome == "converged"
    assert (found.coefficient, found.slope) == (-opposite.coefficient, opposite.slope)
    assert (found.low, found.high) == (-opposite.high, None)
    assert opposite.low is None


@pytest.mark.parametrize("spec", ["kl_p95", "kl_mean", "kl_max", "nll"])
def test_early_exit_never_changes_the_outcome(spec, registry, monkeypatch, tiny):
    monkeypatch.setattr(search, "ABOVE", 5.0)  # far enough for some doses to be too strong
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
        close = 1e-3 if name == "slope" else 1e-5  # batches are others; a slope is of small differences
        assert one == other or one == pytest.approx(other, rel=close)
    for one, other in zip(early.evaluations, full.evaluations, strict=True):  # of a strong dose, its bound
        assert (one.dose, one.value) == pytest.approx((other.dose, other.value), rel=1e-5, abs=1e-6)
        assert (one.round, one.tokens, one.complete) == (other.round, other.tokens, other.complete)
