"""What metrics are given: one intervention at several alphas on the holdout prompts, every rollout made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from isokl_bench.engine.fork import AnswerTokens
from isokl_bench.engine.rollout import Rollout, Sampler
from isokl_bench.intervention import Intervention
from isokl_registry import REPLY_END, ForkValues, IsoklError, Prompt, RolloutValues


@dataclass
class MeasureSession:
    """Hands rollouts and forks to metrics (see isokl_registry.Session).

    window: the longest rollout any metric will ask for, so that one generation serves them all."""

    intervention: Intervention
    alphas: Sequence[float]
    prompts: Sequence[Prompt]
    answer: AnswerTokens
    window: int
    _forks: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict)

    @property
    def first_is_target(self) -> NDArray[np.bool_]:
        return np.array([prompt.first for prompt in self.prompts])

    @property
    def texts(self) -> list[str]:
        """The user messages."""
        return [prompt.text for prompt in self.prompts]

    @cached_property
    def greedy(self) -> Rollout:
        """The one greedy rollout."""
        return self.intervention.rollout(self.texts, self.alphas, self.window, keep_caches=True)

    def broken(self) -> dict[float, str]:
        """Alphas at which logits are not finite, each with a line that says where they broke."""
        return {
            alpha: self.intervention.explain(self.texts, alpha)
            for alpha, finite in zip(self.alphas, self.greedy.finite, strict=True)
            if not finite
        }

    def sampled(self, prompts: int, seed: int) -> Rollout:
        """Rollouts at temperature 1 of the first few holdout prompts."""
        return self.intervention.rollout(self.texts[:prompts], self.alphas, self.window, Sampler(seed))

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
        """Forks that another metric has asked for are not read again."""
        until = max(points)
        self._check(until)
        keys = [(point, until if point == REPLY_END else point) for point in points]
        if missing := [key for key in keys if key not in self._forks]:
            found = self._answer_at([point for point, _ in missing], until)
            self._forks |= zip(missing, np.moveaxis(np.stack(found.arrays), -1, 0), strict=True)
        return ForkValues(points, *np.stack([self._forks[key] for key in keys], axis=-1))

    def _answer_at(self, points: Sequence[int], until: int) -> ForkValues:
        if until:
            written = replace(self.greedy, tokens=self.greedy.tokens[..., :until])
        else:
            written = Rollout.empty(len(self.alphas), len(self.prompts), 0)
        return self.intervention.forks(self.texts, written, self.alphas, points, self.answer)

    def release(self) -> None:
        """Let go of the caches that only forks need."""
        if "greedy" in vars(self):
            self.greedy.kept.clear()
