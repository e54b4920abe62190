"""What a run measures the effect of, at multiples alpha of its calibrated strength: a steering, or a system message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from isokl_bench.engine.diagnose import explain_nonfinite
from isokl_bench.engine.fork import AnswerTokens, fork
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.prompted import BROKEN, prompted_fork, prompted_rollout
from isokl_bench.engine.rollout import Rollout, Sampler, rollout
from isokl_bench.engine.steering import Steering
from isokl_registry import ForkValues


class Intervention(Protocol):
    """Rollouts and forks of user messages `texts`, arrays [alpha, text, ·]. At alpha 0 the model is left alone.

    keep_caches: what saves forks time; an intervention may do without."""

    def rollout(
        self,
        texts: Sequence[str],
        alphas: Sequence[float],
        window: int,
        sampler: Sampler | None = None,
        *,
        keep_caches: bool = False,
    ) -> Rollout:
        """See engine.rollout; sampler None is greedy."""
        ...

    def forks(
        self,
        texts: Sequence[str],
        written: Rollout,
        alphas: Sequence[float],
        points: Sequence[int],
        answer: AnswerTokens,
    ) -> ForkValues:
        """See engine.fork; written: a rollout of the same texts and alphas."""
        ...

    def explain(self, texts: Sequence[str], alpha: float) -> str:
        """One line on a rollout at alpha whose logits are not finite."""
        ...


@dataclass(frozen=True)
class Steered:
    """A steering whose calibrated, signed dose is `coefficient`."""

    lm: LanguageModel
    steering: Steering
    coefficient: float

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [self.lm.chat.ids(text) for text in texts]

    def _doses(self, alphas: Sequence[float]) -> list[float]:
        return [alpha * self.coefficient for alpha in alphas]

    def rollout(
        self,
        texts: Sequence[str],
        alphas: Sequence[float],
        window: int,
        sampler: Sampler | None = None,
        *,
        keep_caches: bool = False,
    ) -> Rollout:
        return rollout(
            self.lm,
            self._ids(texts),
            self.steering,
            self._doses(alphas),
            window,
            sampler=sampler,
            keep_caches=keep_caches,
        )

    def forks(
        self,
        texts: Sequence[str],
        written: Rollout,
        alphas: Sequence[float],
        points: Sequence[int],
        answer: AnswerTokens,
    ) -> ForkValues:
        return fork(
            self.lm,
            self._ids(texts),
            written.tokens,
            self.steering,
            self._doses(alphas),
            points,
            answer,
            written.kept,
        )

    def explain(self, texts: Sequence[str], alpha: float) -> str:
        return explain_nonfinite(self.lm, self._ids(texts), self.steering, alpha * self.coefficient)


@dataclass(frozen=True)
class Prompted:
    """A system message, which is there (alpha 1) or not (alpha 0)."""

    lm: LanguageModel
    system: str

    def _ids(self, texts: Sequence[str]) -> tuple[list[list[int]], list[list[int]]]:
        """Without and with it."""
        plain, prompted = (
            [self.lm.chat.ids(text, system=system) for text in texts] for system in (None, self.system)
        )
        return plain, prompted

    def rollout(
        self,
        texts: Sequence[str],
        alphas: Sequence[float],
        window: int,
        sampler: Sampler | None = None,
        *,
        keep_caches: bool = False,
    ) -> Rollout:
        return prompted_rollout(self.lm, *self._ids(texts), alphas, window, sampler=sampler)

    def forks(
        self,
        texts: Sequence[str],
        written: Rollout,
        alphas: Sequence[float],
        points: Sequence[int],
        answer: AnswerTokens,
    ) -> ForkValues:
        return prompted_fork(self.lm, *self._ids(texts), written.tokens, alphas, points, answer)

    def explain(self, texts: Sequence[str], alpha: float) -> str:
        return BROKEN
