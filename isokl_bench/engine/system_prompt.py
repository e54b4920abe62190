"""Rollouts and forks under a system message: the model with it and the model without it read the same words,
each after its own prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.fork import fork
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import Rollout, rollouts
from isokl_bench.engine.sampling import Sampler
from isokl_bench.engine.steering import Steering
from isokl_bench.engine.transcript import Ints, Wanted
from isokl_registry import Contrast, ForkValues, IsoklError, Method, Site, State

BROKEN = "logits of the model are not finite: use --dtype float32 or bfloat16"


def system_rollout(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    with_system: Sequence[Sequence[int]],
    alphas: Sequence[float],
    window: int,
    *,
    sampler: Sampler | None = None,
) -> Rollout:
    """Generate `window` tokens (fewer after EOS) from every prompt at every alpha.

    Args:
        lm: the model.
        prompts: token ids of n prompts.
        with_system: those of the same prompts under the system message.
        alphas: 0 is the model itself, whose KL is 0 exactly, anything else the model under the system
            message.
        window: t, the most tokens of a row.
        sampler: None for greedy; its noise is that of the bare prompt, the same at every alpha.

    Returns:
        The rollout, arrays [alpha, n, t]: KL(under the system message ‖ without it).

    Raises:
        IsoklError: when logits are not finite, or memory does not suffice for one row.
    """
    wanted = [Wanted(prompts, [0.0], window, sampler, with_system if alpha else prompts) for alpha in alphas]
    found = rollouts(lm, no_steering(lm), wanted)
    if not all(one.finite.all() for one in found):
        raise IsoklError(BROKEN)
    tokens = np.concatenate([one.tokens for one in found])
    each = zip(*((one.kl, one.nll, one.entropy) for one in found), strict=True)
    kl, nll, entropy = map(np.concatenate, each)
    true = np.ones(len(alphas), dtype=bool)
    return Rollout(tokens, kl, nll, entropy, complete=true, finite=true)


def system_fork(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    with_system: Sequence[Sequence[int]],
    tokens: Ints,
    alphas: Sequence[float],
    points: Sequence[int],
    answer: AnswerTokens,
) -> ForkValues:
    """Answer probabilities at every fork point of `system_rollout`s, each in the context that wrote it.

    Args:
        lm, prompts, with_system, alphas: as in the rollout.
        tokens: [alpha, n, t], what was written; −1 after the end.
        points, answer: see `fork`.

    Returns:
        Log masses (nats) and logits, arrays [alpha, n, point]; NaN at a fork point that a row did not reach.

    Raises:
        IsoklError: as `fork`.
    """
    nothing = no_steering(lm)
    found = [
        fork(lm, with_system if alpha else prompts, tokens[a : a + 1], nothing, [0.0], points, answer)
        for a, alpha in enumerate(alphas)
    ]
    return ForkValues(points, *map(np.concatenate, zip(*(forks.arrays for forks in found), strict=True)))


@dataclass(frozen=True)
class Nothing(Method):
    """No edit at all: what services that want a steering are given for a model that has none."""

    name: ClassVar[str] = "nothing"

    def fit(self, contrast: Contrast) -> State:
        return {}

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        return output


def no_steering(lm: LanguageModel) -> Steering:
    """A steering that does nothing at any dose."""
    return Steering(Nothing(), {Site(len(lm.blocks) - 1): {}})
