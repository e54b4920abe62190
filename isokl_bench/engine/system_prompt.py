"""Rollouts under a system message: the model with and without it reads the same words after its own prompt, in lockstep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.batching import in_batches
from isokl_bench.engine.cache_snapshot import Place
from isokl_bench.engine.divergence import kl_and_nll
from isokl_bench.engine.fork import fork
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import Rollout
from isokl_bench.engine.sampling import Sampler, gumbel
from isokl_bench.engine.steering import Steering
from isokl_registry import Contrast, ForkValues, IsoklError, Method, Site, State

BROKEN = "logits of the model are not finite: use --dtype float32 or bfloat16"


@torch.inference_mode()
def system_rollout(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    with_system: Sequence[Sequence[int]],
    alphas: Sequence[float],
    window: int,
    *,
    sampler: Sampler | None = None,
) -> Rollout:
    """Generate `window` tokens (fewer after EOS) from every prompt at every alpha: 0 is the model itself, whose KL is 0
    exactly, 1 the model under the system message. Arrays are [alpha, prompt, token].

    prompts, with_system: token ids without and with the system message. sampler: None for greedy; its noise is that of the
    bare prompt, the same at both alphas. Raises IsoklError when logits are not finite, or memory does not suffice for
    one row."""
    result = Rollout.empty(len(alphas), len(prompts), window)
    rows = [(alpha, prompt) for alpha in range(len(alphas)) for prompt in range(len(prompts))]

    def walk(batch: Sequence[Place]) -> None:
        steered = [i for i, (alpha, _) in enumerate(batch) if alphas[alpha]]
        contexts = [(with_system if alphas[alpha] else prompts)[prompt] for alpha, prompt in batch]
        texts = [*contexts, *(prompts[batch[i][1]] for i in steered)]
        noise = [sampler.generator(prompts[prompt]) for _, prompt in batch] if sampler else None
        _note(result, batch, *_walk(lm, texts, len(batch), steered, window, noise))

    longest = max(map(len, (*prompts, *with_system)))
    in_batches(lm, rows, lm.max_rows(longest + window, read=longest) // 2, walk)
    return result


def _walk(
    lm: LanguageModel,
    texts: Sequence[Sequence[int]],
    n: int,
    steered: Sequence[int],
    window: int,
    noise: Sequence[torch.Generator] | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What the first n of the texts go on with, [n, token], and the numbers of `kl_and_nll`, [2, n, token].

    The other texts are read against the rows `steered`, which write their tokens; a row not in there is its own base."""
    writer, base = torch.tensor([*range(n), *steered]), torch.arange(n)
    base[steered] = torch.arange(n, len(texts))
    writer, base, row = writer.to(lm.device), base.to(lm.device), torch.arange(n, device=lm.device)
    ids, mask = lm.pad_rows(texts)
    cache, alive = lm.new_cache(), torch.ones(n, dtype=torch.bool, device=lm.device)
    eos = torch.tensor(lm.eos, dtype=torch.long, device=lm.device)
    tokens: list[Tensor] = []
    numbers: list[Tensor] = []
    while len(tokens) < window and alive.any():
        logits = lm.forward(ids, mask, cache)[:, -1]
        token = (logits[:n] if noise is None else logits[:n] + _gumbel(noise, logits)).max(-1).indices
        tokens.append(torch.where(alive, token, -1))
        numbers.append(kl_and_nll(logits, token, row, base))
        alive = alive & ~torch.isin(token, eos)
        ids = token[writer, None]
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
    return torch.stack(tokens, -1).cpu().numpy(), torch.stack(numbers, -1).cpu().numpy()


def _gumbel(noise: Sequence[torch.Generator], logits: Tensor) -> Tensor:
    """Each row's noise for one more token, [n, v]."""
    drawn = torch.stack([torch.rand(logits.shape[-1], generator=generator) for generator in noise])
    return gumbel(drawn).to(logits.device)


def _note(
    result: Rollout, batch: Sequence[Place], tokens: NDArray[np.int64], numbers: NDArray[np.float64]
) -> None:
    """Move what a batch has found to the result."""
    live = tokens >= 0
    if not np.isfinite(numbers[:, live]).all():
        raise IsoklError(BROKEN)
    alpha, prompt = np.array(batch).T
    result.tokens[alpha, prompt, : tokens.shape[1]] = tokens
    arrays = (result.kl, result.nll)
    for array, values in zip(arrays, numbers, strict=True):
        array[alpha, prompt] = np.nan
        array[alpha, prompt, : tokens.shape[1]] = np.where(live, values, np.nan)


def system_fork(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    with_system: Sequence[Sequence[int]],
    tokens: NDArray[np.int64],
    alphas: Sequence[float],
    points: Sequence[int],
    answer: AnswerTokens,
) -> ForkValues:
    """Answer probabilities at every fork point of rollouts `tokens` [alpha, prompt, token], each in its own context."""
    nothing = Steering(Nothing(), {Site(len(lm.blocks) - 1): {}})
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
