"""How well a behavior can be measured on a model: do replies last, does the form make it answer, do personas move it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isokl_bench.bootstrap import Interval, mean_intervals
from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.system_prompt import system_fork, system_rollout
from isokl_registry import REPLY_END, ForkValues, Prompt, PromptSet

Array = NDArray[np.float64]
CALIBRATED = 20  # tokens of each reply that a calibration reads by default
POOL, MASS, REACHED = 0.9, 0.9, 0.75  # what a behavior should reach: shares


@dataclass(frozen=True)
class BehaviorCheck:
    """What the unsteered model does with a behavior's prompts.

    Args:
        n: prompts that were asked.
        pool: tokens in the first `CALIBRATED` of all replies.
        possible: what that could be at most.
        points: fork points.
        mass: [fork] mean probability of the answer words there, NaN where no reply gets.
        reached: [fork] how many of the n replies get so far.
        first: at the start of the reply and at its end, the share of prompts on the side of the first answer word.
        positive: likewise, of the positive persona's answer.
        personas: how far the positive persona, in place of the negative one, moves the log-ratio of the answer at the
            start of the reply towards its own, in nats.
    """

    n: int
    pool: int
    possible: int
    points: Sequence[int]
    mass: Array
    reached: NDArray[np.int64]
    first: tuple[float, float]
    positive: tuple[float, float]
    personas: Interval | None

    def problems(self) -> Iterator[str]:
        """What falls short of what a behavior should reach, each with what would help."""
        if self.pool < POOL * self.possible:
            yield f"replies end early ({self.pool} of {self.possible} tokens): ask for longer ones"
        worst = int(np.nanargmin(self.mass))
        if self.mass[worst] < MASS:
            yield (
                f"the form does not make the model answer (mass {self.mass[worst]:.2f} at fork {self.points[worst]}): "
                "say in the question how to answer, and give every spelling of the words"
            )
        if self.reached[-1] < REACHED * self.n:
            yield f"{self.reached[-1]} of {self.n} replies reach fork {self.points[-1]}: ask for longer ones"


def check_behavior(
    lm: LanguageModel, prompts: PromptSet, asked: Sequence[Prompt], points: Sequence[int]
) -> BehaviorCheck:
    """How the unsteered model answers.

    Args:
        lm: the model.
        prompts: the behavior.
        asked: those of its prompts that are put to the model.
        points: ascending fork points; the last is how long the replies may get.
    """
    answer = AnswerTokens.of(prompts.answer, lm)
    ids = [lm.chat.ids(prompt.text) for prompt in asked]
    tokens = system_rollout(lm, ids, ids, [0.0], max(CALIBRATED, points[-1])).tokens
    cut = tokens[..., : points[-1]]
    forks = system_fork(lm, ids, ids, cut, [0.0], [*points, REPLY_END], answer)
    ratio, mass = log_ratio(forks), np.exp(forks.log_mass_first[0]) + np.exp(forks.log_mass_second[0])
    target = np.array([1 if prompt.first else -1 for prompt in asked])
    reached = (~np.isnan(mass[:, :-1])).sum(0)
    sides = [ratio[:, 0], ratio[:, -1]]
    return BehaviorCheck(
        len(asked),
        int((tokens[0, :, :CALIBRATED] >= 0).sum()),
        len(asked) * CALIBRATED,
        points,
        np.nansum(mass[:, :-1], axis=0) / np.where(reached, reached, np.nan),
        reached,
        (float((sides[0] > 0).mean()), float((sides[1] > 0).mean())),
        (float((sides[0] * target > 0).mean()), float((sides[1] * target > 0).mean())),
        mean_intervals((persona_move(lm, prompts, asked, answer) * target)[None])[0],
    )


def log_ratio(forks: ForkValues) -> Array:
    """log p(first) − log p(second), [prompt, fork]."""
    ratio: Array = forks.log_mass_first[0] - forks.log_mass_second[0]
    return ratio


def persona_move(
    lm: LanguageModel, prompts: PromptSet, asked: Sequence[Prompt], answer: AnswerTokens
) -> Array:
    """The log-ratio at the start of the reply under the positive persona, minus that under its negative one, [prompt]."""
    nothing = np.zeros((1, len(asked), 0), dtype=np.int64)
    ratios = []
    for side in (0, 1):
        ids = [
            lm.chat.ids(prompt.text, system=prompts.personas[i % len(prompts.personas)][side])
            for i, prompt in enumerate(asked)
        ]
        ratios.append(log_ratio(system_fork(lm, ids, ids, nothing, [1.0], [0], answer))[:, 0])
    return np.asarray(ratios[0] - ratios[1])
