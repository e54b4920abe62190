"""Rollouts: what steered and base model say of the same texts, token by token, for many doses and prompts at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from isokl_bench.engine.compare import compare
from isokl_bench.engine.kept import SHARE, Kept
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.packing import in_batches, out_of_memory
from isokl_bench.engine.steering import Steering, attached
from isokl_bench.engine.walk import BROKEN_BASE, Walk
from isokl_registry import IsoklError, TokenValues

Array = NDArray[np.float64]
Row = tuple[int, int]  # dose, prompt


@dataclass
class Rollout:
    """What a rollout leaves, each array [dose, prompt, token]; NaN (tokens: -1) where a row has ended.

    tokens: ids the steered model wrote. kl: KL(steered ‖ base), nats. nll: −log p_base of the token. entropy,
    base_entropy: of both next-token distributions, nats. complete: [dose], False where the dose was dropped early;
    its missing tokens are then 0. finite: [dose], False where logits were NaN or infinite; kl and nll are infinite there.
    kept: caches of rows, where they were asked for and memory allows.
    """

    tokens: NDArray[np.int64]
    kl: Array
    nll: Array
    entropy: Array
    base_entropy: Array
    complete: NDArray[np.bool_]
    finite: NDArray[np.bool_]
    kept: list[Kept] = field(default_factory=list)

    @classmethod
    def empty(cls, doses: int, prompts: int, window: int) -> Rollout:
        """All numbers 0, no token written."""
        shape = (doses, prompts, window)
        kl, nll, entropy, base_entropy = (np.zeros(shape) for _ in range(4))
        complete, finite = (np.ones(doses, dtype=bool) for _ in range(2))
        return cls(np.full(shape, -1, dtype=np.int64), kl, nll, entropy, base_entropy, complete, finite)

    def values(self, dose: int) -> TokenValues:
        """The arrays of one dose, as stats take them."""
        return TokenValues(self.kl[dose], self.nll[dose])


def unknown_values(prompts: int, tokens: int) -> TokenValues:
    """All NaN: what a stat that needs no base rollout is handed in its place."""
    return TokenValues(*(np.full((prompts, tokens), np.nan) for _ in range(2)))


TooStrong = Callable[[int, TokenValues], bool]


@dataclass(frozen=True)
class Sampler:
    """Temperature 1, by Gumbel noise drawn per (seed, prompt, token): the same for every dose and every packing."""

    seed: int

    def generator(self, prompt: Sequence[int]) -> torch.Generator:
        key = hashlib.sha256(f"{self.seed}:{list(prompt)}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)


@torch.inference_mode()
def rollout(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    steering: Steering,
    doses: Sequence[float],
    window: int,
    *,
    sampler: Sampler | None = None,
    too_strong: TooStrong | None = None,
    drafts: NDArray[np.int64] | None = None,
    keep_caches: bool = False,
) -> Rollout:
    """Generate `window` tokens (fewer after EOS) from every prompt at every dose.

    prompts: token ids. sampler: None for greedy. too_strong: asked every few tokens with a dose's index and what it
    has produced so far (0 for what is still to come); True drops the dose. drafts: [dose, prompt, token], −1 after the end: guesses of
    the greedy text. They change nothing but the time: what a guess has right is read in one forward pass.
    keep_caches: for forks of this rollout; a quarter of the memory at most, and none when that does not suffice. Raises
    IsoklError when the base model's logits are not finite, or memory does not suffice for one row.
    """
    result = Rollout.empty(len(doses), len(prompts), window)
    rows = [(dose, prompt) for dose in range(len(doses)) for prompt in range(len(prompts))]
    if not lm.croppable or sampler is not None:
        drafts = None  # a wrong guess cannot be cut out of a recurrent state
    keep = 1 if drafts is None else window
    longest = max(map(len, prompts))
    needed = len(rows) * lm.cache_bytes(longest + window)
    keep_caches &= lm.packable and drafts is None and needed < SHARE * lm.free_memory()

    def walk_batch(batch: Sequence[Row]) -> None:
        nonlocal keep_caches
        wanted = [row for row in batch if result.complete[row[0]]]
        if not wanted:
            return
        walk = Walk(
            lm, edits, prompts, doses, wanted, window, sampler, too_strong, drafts, keep_caches, result
        )
        try:
            walk.run()
        except RuntimeError as error:
            if not (keep_caches and out_of_memory(error)):
                raise
        else:
            result.kept.extend(walk.kept)
            return
        # What may save time later goes first. Outside the except block: the traceback would keep the tensors alive.
        keep_caches = False
        result.kept.clear()
        del walk
        walk_batch(batch)

    with attached(lm, steering) as edits:
        size = lm.max_rows(longest + window, keep, read=longest + keep)
        in_batches(lm, rows, size // 2, walk_batch)  # as many unsteered rows at worst
    return result


@torch.inference_mode()
def teacher_forced(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    steering: Steering,
    doses: Sequence[float],
    positions: int,
) -> tuple[list[TokenValues], TokenValues]:
    """What the next token would be after each of the last `positions` prefixes of the prompts: the values of every dose
    (arrays [prompt, position]; infinite where logits are not finite), and those of the base model itself.

    Raises IsoklError when the base model's logits are not finite."""
    shape = (len(doses) + 1, len(prompts), positions)
    kl, nll = np.full(shape, np.nan), np.full(shape, np.nan)

    def score(batch: Sequence[int]) -> None:
        n, g = len(batch) * len(prompts), len(prompts)
        strength = torch.tensor([doses[d] for d in batch], dtype=torch.float32, device=lm.device)
        text = torch.arange(g, device=lm.device).repeat(len(batch))
        edits.arrange(strength.repeat_interleave(g), text, base=g)
        ids, mask = lm.pad_rows(prompts)
        logits = lm.forward(ids, mask, keep=min(positions, ids.shape[1]))
        keep = logits.shape[1]
        rows = torch.arange((n + g) * keep, device=lm.device).view(n + g, keep)
        base = rows[n:][torch.cat([text, torch.arange(g, device=lm.device)])]
        token = logits.argmax(-1).flatten()
        found = compare(logits.flatten(0, 1), token, rows.flatten(), base.flatten())
        real = mask[:, -keep:].bool()
        values = torch.where(real.repeat(len(batch) + 1, 1).flatten(), found, torch.nan)
        where = [*batch, len(doses)]
        for array, value in zip((kl, nll), values.view(4, -1, g, keep).cpu().numpy(), strict=False):
            array[where, :, -keep:] = value
        bad = ~np.isfinite(kl[where][:, :, -keep:]) & real.cpu().numpy()
        for array in (kl, nll):
            array[where, :, -keep:] = np.where(bad, np.inf, array[where][:, :, -keep:])

    with attached(lm, steering) as edits:
        longest = max(map(len, prompts))
        size = lm.max_rows(longest, positions, read=longest) // len(prompts)
        in_batches(lm, range(len(doses)), size, score)
    if np.isinf(kl[-1]).any():
        raise IsoklError(BROKEN_BASE)
    values = [TokenValues(k, n) for k, n in zip(kl, nll, strict=True)]
    return values[:-1], values[-1]
