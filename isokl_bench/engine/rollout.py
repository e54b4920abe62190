"""Rollouts: what steered and base model say of the same texts, token by token, for many doses and prompts at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from isokl_bench.engine.batching import in_batches, out_of_memory
from isokl_bench.engine.cache_snapshot import SHARE, CacheSnapshot, Row
from isokl_bench.engine.divergence import compare
from isokl_bench.engine.hooks import attached
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.lockstep import BROKEN_BASE, Lockstep
from isokl_bench.engine.sheet import Array, Ints, Sampler, Sheet, Wanted
from isokl_bench.engine.steering import Steering
from isokl_registry import IsoklError, TokenValues


@dataclass
class Rollout:
    """What a rollout leaves, each array [dose, prompt, token]; NaN (tokens: -1) where a row has ended.

    tokens: ids the steered model wrote. kl: KL(steered ‖ base), nats. nll: −log p_base of the token. entropy: of the
    steered next-token distribution, nats. complete: [dose], False where the dose was dropped early; its missing tokens
    are then 0. finite: [dose], False where logits were NaN or infinite; kl and nll are infinite there. kept: caches of
    rows, where they were asked for and memory allows.
    """

    tokens: Ints
    kl: Array
    nll: Array
    entropy: Array
    complete: NDArray[np.bool_]
    finite: NDArray[np.bool_]
    kept: list[CacheSnapshot] = field(default_factory=list)

    @classmethod
    def empty(cls, doses: int, prompts: int, window: int) -> Rollout:
        """All numbers 0, no token written."""
        shape = (doses, prompts, window)
        kl, nll, entropy = (np.zeros(shape) for _ in range(3))
        complete, finite = (np.ones(doses, dtype=bool) for _ in range(2))
        return cls(np.full(shape, -1, dtype=np.int64), kl, nll, entropy, complete, finite)

    @classmethod
    def of_rows(cls, sheet: Sheet, rows: Ints, window: int) -> Rollout:
        """Rows [dose, prompt] of a sheet, as far as the window."""
        numbers = (array[rows, :window] for array in (sheet.kl, sheet.nll, sheet.entropy))
        doses = sheet.dose[rows[:, 0]]
        state = sheet.complete[doses], sheet.finite[doses]
        return cls(sheet.tokens[rows, :window], *numbers, *state)  # type: ignore[call-arg, arg-type]

    def values(self, dose: int) -> TokenValues:
        """The arrays of one dose, as stats take them."""
        return TokenValues(self.kl[dose], self.nll[dose])

    def at(self, doses: Sequence[int]) -> Rollout:
        """The same at some of the doses."""
        place = {dose: i for i, dose in enumerate(doses)}
        kept = [
            replace(part, rows=[(place.get(dose, -1), prompt) for dose, prompt in part.rows])
            for part in self.kept
        ]
        some = list(doses)
        numbers = (array[some] for array in (self.kl, self.nll, self.entropy))
        state = self.complete[some], self.finite[some]
        return Rollout(self.tokens[some], *numbers, *state, kept)  # type: ignore[call-arg, arg-type]


def unknown_values(prompts: int, tokens: int) -> TokenValues:
    """All NaN: what a stat that needs no base rollout is handed in its place."""
    return TokenValues(*(np.full((prompts, tokens), np.nan) for _ in range(2)))


TooStrong = Callable[[int, TokenValues], bool]
Tell = Callable[[float], None]


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

    prompts: token ids. sampler: None for greedy. too_strong: asked every few tokens with a dose's index and what it
    has produced so far (0 for what is still to come); True drops the dose. drafts: [dose, prompt, token], −1 after the end: guesses of
    the greedy text. They change nothing but the time: what a guess has right is read in one forward pass.
    keep_caches: for forks of this rollout; a quarter of the memory at most, and none when that does not suffice. tell:
    called with the share of all tokens that has been generated. Raises IsoklError when the base model's logits are not
    finite, or memory does not suffice for one row.
    """
    wanted = Wanted(prompts, doses, window, sampler)
    sheet, (rows,) = Sheet.of([wanted])
    index = [doses.index(dose) for dose in sheet.doses]

    def asked(dose: int) -> bool:
        assert too_strong is not None
        own = rows[index[dose]]
        return too_strong(index[dose], TokenValues(sheet.kl[own], sheet.nll[own]))

    guesses = None
    if drafts is not None and lm.croppable and sampler is None:  # a recurrent state cannot be cut
        guesses = np.empty_like(sheet.tokens)
        guesses[rows] = drafts
    kept = write(
        lm,
        steering,
        sheet,
        rows if keep_caches else None,
        asked if too_strong else None,
        drafts=guesses,
        tell=tell,
    )
    return replace(Rollout.of_rows(sheet, rows, window), kept=kept)


def rollouts(
    lm: LanguageModel,
    steering: Steering,
    wanted: Sequence[Wanted],
    *,
    keep_caches: bool = False,
    tell: Tell = lambda share: None,
) -> list[Rollout]:
    """Several rollouts in one; what they have in common is generated once.

    keep_caches: of the first of them. tell: called with the share of all tokens that has been generated."""
    sheet, rows = Sheet.of(wanted)
    kept = write(lm, steering, sheet, rows[0] if keep_caches else None, tell=tell)
    found = [Rollout.of_rows(sheet, own, one.window) for own, one in zip(rows, wanted, strict=True)]
    return [replace(found[0], kept=kept), *found[1:]]


@torch.inference_mode()
def write(
    lm: LanguageModel,
    steering: Steering,
    sheet: Sheet,
    keep: Ints | None = None,
    too_strong: Callable[[int], bool] | None = None,
    *,
    drafts: Ints | None = None,
    tell: Tell = lambda share: None,
) -> list[CacheSnapshot]:
    """Generate all rows of a sheet. keep: rows [dose, prompt] whose caches are wanted; they are returned under those
    places, or none of them when memory does not suffice. drafts: [row, token]."""
    longest, window = max(map(len, sheet.prompts)), int(sheet.window.max())
    labels = _labels(keep) if keep is not None else {}
    needed = sum(len(names) for names in labels.values()) * lm.cache_bytes(longest + window)
    if not lm.packable or drafts is not None or needed >= SHARE * lm.free_memory():
        labels = {}
    kept: list[CacheSnapshot] = []
    ahead = total = int(sheet.window.sum())

    def count(left: int) -> None:
        tell(1 - (ahead + left) / total)

    def walk_batch(batch: Sequence[int]) -> None:
        nonlocal labels, ahead
        rows = [row for row in batch if sheet.complete[sheet.dose[row]]]
        ahead = int(sheet.window[batch[-1] + 1 :].sum())
        if not rows:
            return
        walk = Lockstep(lm, edits, sheet, rows, too_strong, drafts, labels, count)
        try:
            walk.run()
        except RuntimeError as error:
            if not (labels and out_of_memory(error)):
                raise
        else:
            kept.extend(walk.kept)
            return
        # What may save time later goes first. Outside the except block: the traceback would keep the tensors alive.
        labels = {}
        kept.clear()
        del walk
        walk_batch(batch)

    with attached(lm, steering) as edits:
        keep_logits = 1 if drafts is None else window
        size = lm.max_rows(longest + window, keep_logits, read=longest + keep_logits)
        in_batches(lm, range(len(sheet.rows)), size // 2, walk_batch)  # as many unsteered rows at worst
    return kept


def _labels(rows: Ints) -> Mapping[int, Sequence[Row]]:
    """The places [dose, prompt] of every row."""
    labels: dict[int, list[Row]] = {}
    for place in np.ndindex(*rows.shape):
        labels.setdefault(int(rows[place]), []).append((place[0], place[1]))
    return labels


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
        token = logits.max(-1).indices.flatten()
        found = compare(logits.flatten(0, 1), token, rows.flatten(), base.flatten())
        real = mask[:, -keep:].bool()
        values = torch.where(real.repeat(len(batch) + 1, 1).flatten(), found, torch.nan)
        where = [*batch, len(doses)]
        for array, value in zip((kl, nll), values.view(3, -1, g, keep).cpu().numpy(), strict=False):
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
