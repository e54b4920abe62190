"""What metrics are given: one intervention at several alphas on the holdout prompts, every fork made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.rollout import Rollout
from isokl_bench.pipeline.intervention import Intervention
from isokl_registry import REPLY_END, ForkValues, IsoklError, Prompt, RolloutValues


@dataclass
class MeasureSession:
    """Hands rollouts and forks to metrics (see isokl_registry.Session).

    greedy: the rollout at these alphas of these prompts that serves all metrics."""

    intervention: Intervention
    alphas: Sequence[float]
    prompts: Sequence[Prompt]
    answer: AnswerTokens
    greedy: Rollout
    _forks: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict)

    @property
    def first_is_target(self) -> NDArray[np.bool_]:
        return np.array([prompt.first for prompt in self.prompts])

    def rollout(self, window: int) -> RolloutValues:
        self._check(window)
        full = self.greedy
        return RolloutValues(*(array[..., :window] for array in (full.kl, full.nll, full.entropy)))

    def _check(self, tokens: int) -> None:
        if tokens > self.greedy.tokens.shape[-1]:
            raise IsoklError(
                f"a metric asks for {tokens} tokens of rollout, but its `tokens` does not say so many"
            )

    def forks(self, points: Sequence[int]) -> ForkValues:
        """Forks that another metric has asked for are not read again.

        Raises:
            IsoklError: when no point says how far a reply is followed.
        """
        until = max(points, default=REPLY_END)
        if until < 0:
            raise IsoklError(
                "a metric asks for forks at the end of replies alone: give it a number of tokens, too"
            )
        self._check(until)
        keys = [(point, until if point == REPLY_END else point) for point in points]
        if missing := [key for key in keys if key not in self._forks]:
            found = self._answer_at([point for point, _ in missing], until)
            self._forks |= zip(missing, np.moveaxis(np.stack(found.arrays), -1, 0), strict=True)
        return ForkValues(points, *np.stack([self._forks[key] for key in keys], axis=-1))

    def _answer_at(self, points: Sequence[int], until: int) -> ForkValues:
        written = replace(self.greedy, tokens=self.greedy.tokens[..., :until])
        texts = [prompt.text for prompt in self.prompts]
        return self.intervention.forks(texts, written, self.alphas, points, self.answer)
