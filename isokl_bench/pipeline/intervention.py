"""What a run measures the effect of, at multiples alpha of its calibrated strength: a steering, or a system message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.diagnose import explain_nonfinite
from isokl_bench.engine.fork import fork
from isokl_bench.engine.generate import Tell
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import Rollout, rollouts
from isokl_bench.engine.sampling import Sampler
from isokl_bench.engine.steering import Steering
from isokl_bench.engine.system_prompt import BROKEN, system_fork, system_rollout
from isokl_bench.engine.transcript import Wanted
from isokl_registry import ForkValues


@dataclass(frozen=True)
class Ask:
    """A rollout of `window` tokens from user messages, at some alphas; sampler None is greedy."""

    texts: Sequence[str]
    alphas: Sequence[float]
    window: int
    sampler: Sampler | None = None


class Intervention(Protocol):
    """Rollouts and forks of user messages `texts`, arrays [alpha, text, ·]. At alpha 0 the model is left alone."""

    def rollouts(
        self, asked: Sequence[Ask], *, keep_caches: bool = False, tell: Tell = lambda share: None
    ) -> list[Rollout]:
        """All that is asked for, see engine.rollouts. keep_caches: what saves forks of the first time; an intervention
        may do without."""
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

    def rollouts(
        self, asked: Sequence[Ask], *, keep_caches: bool = False, tell: Tell = lambda share: None
    ) -> list[Rollout]:
        wanted = [
            Wanted(self._ids(ask.texts), self._doses(ask.alphas), ask.window, ask.sampler) for ask in asked
        ]
        return rollouts(self.lm, self.steering, wanted, keep_caches=keep_caches, tell=tell)

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
            written.snapshots,
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

    def rollouts(
        self, asked: Sequence[Ask], *, keep_caches: bool = False, tell: Tell = lambda share: None
    ) -> list[Rollout]:
        tokens = [len(ask.texts) * len(ask.alphas) * ask.window for ask in asked]
        found = []
        for i, ask in enumerate(asked):
            found.append(
                system_rollout(self.lm, *self._ids(ask.texts), ask.alphas, ask.window, sampler=ask.sampler)
            )
            tell(sum(tokens[: i + 1]) / sum(tokens))
        return found

    def forks(
        self,
        texts: Sequence[str],
        written: Rollout,
        alphas: Sequence[float],
        points: Sequence[int],
        answer: AnswerTokens,
    ) -> ForkValues:
        return system_fork(self.lm, *self._ids(texts), written.tokens, alphas, points, answer)

    def explain(self, texts: Sequence[str], alpha: float) -> str:
        return BROKEN
