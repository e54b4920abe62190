"""What metrics are given: one intervention at several alphas on the holdout prompts, every fork made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isokl_bench.engine.fork import AnswerTokens
from isokl_bench.engine.rollout import Rollout
from isokl_bench.intervention import Intervention
from isokl_registry import ForkValues, IsoklError, Prompt, RolloutValues


@dataclass
class MeasureSession:
    """Hands rollouts and forks to metrics (see isokl_registry.Session).

    greedy: the rollout at these alphas of these prompts that serves all metrics."""

    intervention: Intervention
    alphas: Sequence[float]
    prompts: Sequence[Prompt]
    answer: AnswerTokens
    greedy: Rollout
    _forks: dict[tuple[int, ...], ForkValues] = field(default_factory=dict)

    @property
    def first_is_target(self) -> NDArray[np.bool_]:
        return np.array([prompt.first for prompt in self.prompts])

    def rollout(self, window: int) -> RolloutValues:
        self._check(window)
        full = self.greedy
        return RolloutValues(full.kl[..., :window], full.nll[..., :window], full.entropy[..., :window])

    def _check(self, tokens: int) -> None:
        if tokens > self.greedy.tokens.shape[-1]:
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
        written = self.greedy if max(points) else Rollout.empty(len(self.alphas), len(self.prompts), 0)
        texts = [prompt.text for prompt in self.prompts]
        return self.intervention.forks(texts, written, self.alphas, points, self.answer)
