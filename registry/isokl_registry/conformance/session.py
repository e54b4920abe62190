"""A session without a model, for metrics: numbers of the right shapes, with rows that end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isokl_registry.metric import ForkValues, RolloutValues

LONGEST = 2048
Array = NDArray[np.float64]


@dataclass
class FakeSession:
    """Made-up rollouts and forks (see isokl_registry.Session). asked: the longest rollout asked for."""

    alphas: Sequence[float] = (0.0, 0.5, 1.0)
    prompts: int = 6
    asked: int = 0
    handed: list[Array] = field(default_factory=list)

    @property
    def first_is_target(self) -> NDArray[np.bool_]:
        first: NDArray[np.bool_] = np.arange(self.prompts) % 2 == 0
        return first

    def rollout(self, window: int) -> RolloutValues:
        self.asked = max(self.asked, window)
        ended = np.arange(window) >= self._lengths()[..., None]
        kl, nll, entropy = (np.where(ended, np.nan, self._random(i, window)) for i in range(3))
        kl[0] *= 0.0  # alpha 0 is the base model
        return RolloutValues(*map(self._hand, (kl, nll, entropy)))

    def forks(self, points: Sequence[int]) -> ForkValues:
        points = list(points)  # REPLY_END takes the last number: every reply ends somewhere
        self.asked = max(self.asked, *points)
        ended = np.array(points) >= self._lengths()[..., None]
        mass, first, *logits = (self._random(i, max(points) + 1)[..., points] for i in range(3, 7))
        share, within = np.exp(-0.1 * mass), np.exp(-first)
        logs = np.log(share * within), np.log(share * (1 - within) + 1e-12)
        return ForkValues(points, *(self._hand(np.where(ended, np.nan, x)) for x in (*logs, *logits)))

    def _lengths(self) -> NDArray[np.int64]:
        """[alpha, prompt]: where the rows end. Some do early, none before its first token."""
        lengths = np.full((len(self.alphas), self.prompts), LONGEST)
        lengths[-1, 0], lengths[0, -1] = 1, 7
        return lengths

    def _random(self, stream: int, length: int) -> Array:
        """[alpha, prompt, length], whose first numbers do not depend on the length."""
        shape = (length, len(self.alphas), self.prompts)
        return np.moveaxis(np.random.default_rng(stream).exponential(size=shape), 0, -1)

    def _hand(self, array: Array) -> Array:
        self.handed.append(array)
        return array
