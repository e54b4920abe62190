"""What metrics are given: one steering at several alphas on the holdout prompts, every rollout made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from isokl_bench.engine.diagnose import explain_nonfinite
from isokl_bench.engine.fork import AnswerTokens, fork
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import Rollout, Sampler, rollout
from isokl_bench.engine.steering import Steering
from isokl_registry import ForkValues, IsoklError, Prompt, RolloutValues


@dataclass
class MeasureSession:
    """Hands rollouts and forks to metrics (see isokl_registry.Session).

    coefficient: the calibrated, signed dose; alpha multiplies it. window: the longest rollout any metric will ask
    for, so that one generation serves them all."""

    lm: LanguageModel
    steering: Steering
    coefficient: float
    alphas: Sequence[float]
    prompts: Sequence[Prompt]
    answer: AnswerTokens
    window: int
    _forks: dict[tuple[int, ...], ForkValues] = field(default_factory=dict)

    @property
    def doses(self) -> list[float]:
        """alpha × coefficient."""
        return [alpha * self.coefficient for alpha in self.alphas]

    @property
    def first_is_target(self) -> NDArray[np.bool_]:
        return np.array([prompt.first for prompt in self.prompts])

    @cached_property
    def ids(self) -> list[list[int]]:
        """Token ids of the holdout prompts, no persona."""
        return [self.lm.chat.ids(prompt.text) for prompt in self.prompts]

    @cached_property
    def greedy(self) -> Rollout:
        """The one greedy rollout."""
        return rollout(self.lm, self.ids, self.steering, self.doses, self.window)

    def broken(self) -> dict[float, str]:
        """Alphas at which logits are not finite, each with a line that names layer and dose."""
        return {
            alpha: explain_nonfinite(self.lm, self.ids, self.steering, dose)
            for alpha, dose, finite in zip(self.alphas, self.doses, self.greedy.finite, strict=True)
            if not finite
        }

    def sampled(self, prompts: int, seed: int) -> Rollout:
        """Rollouts at temperature 1 of the first few holdout prompts."""
        return rollout(
            self.lm, self.ids[:prompts], self.steering, self.doses, self.window, sampler=Sampler(seed)
        )

    def rollout(self, window: int) -> RolloutValues:
        self._check(window)
        full = self.greedy
        return RolloutValues(full.kl[..., :window], full.nll[..., :window], full.entropy[..., :window])

    def _check(self, tokens: int) -> None:
        if tokens > self.window:
            raise IsoklError(
                f"a metric asks for {tokens} tokens of rollout, but its `tokens` does not say so many"
            )

    def forks(self, points: Sequence[int]) -> ForkValues:
        self._check(max(points))
        key = tuple(points)
        if key not in self._forks:
            self._forks[key] = self._answer_at(key)
        return self._forks[key]

    def _answer_at(self, points: Sequence[int]) -> ForkValues:
        tokens = self.greedy.tokens if max(points) else np.full((len(self.alphas), len(self.ids), 0), -1)
        return fork(self.lm, self.ids, tokens, self.steering, self.doses, points, self.answer)
