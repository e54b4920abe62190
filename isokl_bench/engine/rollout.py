"""Rollouts: what steered and base model say of the same texts, for many doses and prompts at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from isokl_bench.engine.cache_snapshot import CacheSnapshot
from isokl_bench.engine.generate import Tell, generate
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.sampling import Sampler
from isokl_bench.engine.steering import Steering
from isokl_bench.engine.transcript import Array, Ints, Transcript, Wanted
from isokl_registry import TokenValues


@dataclass
class Rollout:
    """What a rollout leaves, each array [dose, prompt, token]; NaN (tokens: -1) where a row has ended.

    tokens: ids the steered model wrote. kl: KL(steered ‖ base), nats. nll: −log p_base of the token, nats.
    entropy: of the steered next-token distribution, nats.
    complete: [dose], False where the dose was dropped early; its missing tokens are then 0. finite: [dose],
    False where logits were NaN or infinite; kl and nll are infinite there. snapshots: caches of rows, where
    they were asked for and memory allows.
    """

    tokens: Ints
    kl: Array
    nll: Array
    entropy: Array
    complete: NDArray[np.bool_]
    finite: NDArray[np.bool_]
    snapshots: list[CacheSnapshot] = field(default_factory=list)

    @classmethod
    def of_rows(cls, transcript: Transcript, rows: Ints, window: int) -> Rollout:
        """Rows [dose, prompt] of a transcript, as far as the window."""
        doses = transcript.dose[rows[:, 0]]
        return cls(
            tokens=transcript.tokens[rows, :window],
            kl=transcript.kl[rows, :window],
            nll=transcript.nll[rows, :window],
            entropy=transcript.entropy[rows, :window],
            complete=transcript.complete[doses],
            finite=transcript.finite[doses],
        )

    def values(self, dose: int) -> TokenValues:
        """The arrays of one dose, as stats take them."""
        return TokenValues(self.kl[dose], self.nll[dose])

    def at(self, doses: Sequence[int]) -> Rollout:
        """The same at some of the doses."""
        new = {dose: i for i, dose in enumerate(doses)}
        snapshots = [
            replace(one, rows=[(new.get(dose, -1), prompt) for dose, prompt in one.rows])
            for one in self.snapshots
        ]
        some = list(doses)
        return Rollout(
            self.tokens[some],
            self.kl[some],
            self.nll[some],
            self.entropy[some],
            self.complete[some],
            self.finite[some],
            snapshots,
        )


def unknown_values(prompts: int, tokens: int) -> TokenValues:
    """All NaN, [prompts, tokens]: what a stat that needs no base rollout is handed in its place."""
    return TokenValues(*(np.full((prompts, tokens), np.nan) for _ in range(2)))


TooStrong = Callable[[int, TokenValues], bool]


def rollout(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    steering: Steering,
    doses: Sequence[float],
    window: int,
    *,
    sampler: Sampler | None = None,
    too_strong: TooStrong | None = None,
    drafts: Ints | None = None,
    keep_caches: bool = False,
    tell: Tell = lambda share: None,
) -> Rollout:
    """Generate `window` tokens (fewer after EOS) from every prompt at every dose.

    Args:
        lm: the model.
        prompts: token ids of n prompts.
        steering: what is applied, at every dose.
        doses: the k doses; 0 is the base model.
        window: t, the most tokens of a row.
        sampler: None for greedy.
        too_strong: asked every few tokens with a dose's index and what it has produced so far (0 for what is
            still to come); True drops the dose.
        drafts: [k, n, t], −1 after the end: guesses of the greedy text. They change nothing but the time.
        keep_caches: for forks of this rollout; a quarter of the memory at most, and none when that does not
            suffice.
        tell: called with the share of all tokens that has been generated.

    Returns:
        The rollout, arrays [k, n, t].

    Raises:
        IsoklError: when the base model's logits are not finite, or memory does not suffice for one row.
    """
    transcript, (rows,) = Transcript.of([Wanted(prompts, doses, window, sampler)])
    index = [doses.index(dose) for dose in transcript.doses]

    def asked(dose: int) -> bool:
        assert too_strong is not None
        own = rows[index[dose]]
        return too_strong(index[dose], TokenValues(transcript.kl[own], transcript.nll[own]))

    guesses = None
    if drafts is not None and lm.croppable and sampler is None:  # a recurrent state cannot be cut
        guesses = np.empty_like(transcript.tokens)
        guesses[rows] = drafts
    wanted, ask = rows if keep_caches else None, asked if too_strong else None
    snapshots = generate(lm, steering, transcript, wanted, ask, drafts=guesses, tell=tell)
    return replace(Rollout.of_rows(transcript, rows, window), snapshots=snapshots)


def rollouts(
    lm: LanguageModel,
    steering: Steering,
    wanted: Sequence[Wanted],
    *,
    keep_caches: bool = False,
    tell: Tell = lambda share: None,
) -> list[Rollout]:
    """Several rollouts in one; what they have in common is generated once.

    Args:
        lm: the model.
        steering: what is applied in all of them.
        wanted: what each of them is of.
        keep_caches: of the first of them, see `rollout`.
        tell: called with the share of all tokens that has been generated.

    Returns:
        The rollouts, in the order of `wanted`; each is what it would be alone.

    Raises:
        IsoklError: as `rollout`.
    """
    transcript, rows = Transcript.of(wanted)
    snapshots = generate(lm, steering, transcript, rows[0] if keep_caches else None, tell=tell)
    found = [Rollout.of_rows(transcript, own, one.window) for own, one in zip(rows, wanted, strict=True)]
    return [replace(found[0], snapshots=snapshots), *found[1:]]
