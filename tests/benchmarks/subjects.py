"""The models and steerings that are timed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from transformers import Qwen3Config

from isokl_bench.engine.calibrate import Calibration, Calibrator
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import rollout
from isokl_bench.engine.steering import Steering
from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.fit import fit
from isokl_bench.pipeline.model_cache import load_model
from isokl_bench.pipeline.plan import Plan, resolve
from isokl_registry import IsoklError, Site, Stat, load_registry
from tests import oracle
from tests.architectures import random_model

WINDOW, TARGET, TOLERANCE = 20, 1.0, 0.05
REAL = "smollm2"
LOW, HIGH = 1e-4, 1e6  # the range that the engine searches, given to the bisection, too


@dataclass(frozen=True)
class Subject:
    """A steering on a model, with the prompts to calibrate it on."""

    lm: LanguageModel
    steering: Steering
    prompts: list[list[int]]
    stat: Stat

    def calibrate(self) -> Calibration:
        return Calibrator(self.lm, self.steering, self.prompts, WINDOW, self.stat, TARGET, TOLERANCE).run(1)

    def kl_p95(self, dose: float) -> float:
        """By the oracle."""
        lm = self.lm
        return oracle.kl_p95(lm.model, lm.blocks, self.steering, dose, self.prompts, WINDOW, lm.eos)

    def kl_p95_by_engine(self, dose: float) -> float:
        found = rollout(self.lm, self.prompts, self.steering, [dose], WINDOW).values(0)
        return float(self.stat(found, found))

    def bisect(self, stat: Callable[[float], float] | None = None) -> tuple[float, int]:
        """The oracle's coefficient, and how many evaluations it took. stat: its kl_p95 unless given."""
        tried = []

        def counted(dose: float) -> float:
            tried.append(dose)
            return (stat or self.kl_p95)(dose)

        return oracle.bisect(counted, TARGET, TOLERANCE, LOW, HIGH)[0], len(tried)


def plan(model: str, prompts: int) -> Plan:
    config = RunConfig(model, "mean_diff", calibration_prompts=prompts, holdout_prompts=8)
    return resolve(config, load_registry())


def tiny(model: str, prompts: int) -> Subject:
    """mean_diff of sentiment on one of the shipped models."""
    resolved = plan(model, prompts)
    lm = load_model(resolved)
    steering = fit(resolved, lm, [Site(layer) for layer in resolved.layers])
    texts = [lm.chat.ids(prompt.text) for prompt in resolved.splits.calibration]
    return Subject(lm, steering, texts, resolved.stat)


def real(prompts: int) -> Subject:
    """The same on SmolLM2-135M-Instruct. Skips where that is not installed."""
    try:
        return tiny(REAL, prompts)
    except IsoklError as error:
        pytest.skip(str(error))


def random_qwen(prompts: int, *, blocks: int = 28, hidden: int = 1024) -> Subject:
    """The shape of Qwen3 0.6B with random weights, scaled up until its next-token distributions are as peaked
    as a trained model's, steered along a random direction at 60 % of its depth."""
    config = Qwen3Config(
        vocab_size=151_936,
        hidden_size=hidden,
        intermediate_size=3 * hidden,
        num_hidden_layers=blocks,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
        bos_token_id=257,
        eos_token_id=258,
        pad_token_id=256,
    )
    lm = random_model(config)
    registry = load_registry()
    direction = torch.nn.functional.normalize(torch.randn(hidden), dim=0)
    steering = Steering(
        registry.create("method", "mean_diff"), {Site(round(0.6 * (blocks - 1))): {"v": direction}}
    )
    ids = torch.randint(0, 150_000, (prompts, 30)).tolist()
    return Subject(lm, steering, ids, registry.create("stat", "kl_p95"))
