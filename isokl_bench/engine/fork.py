"""Interrupting rollouts: the probability of each answer when a reply is cut and an answer forced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache

from isokl_bench.engine.answers import AnswerTokens, interruption
from isokl_bench.engine.batching import distinct_texts, in_batches
from isokl_bench.engine.cache import positions
from isokl_bench.engine.cache_snapshot import CacheSnapshot, Place
from isokl_bench.engine.diagnose import explain_nonfinite
from isokl_bench.engine.hooks import Edits, attached
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.steering import Steering
from isokl_bench.engine.transcript import Ints
from isokl_bench.engine.tree_mask import branched_rows
from isokl_registry import REPLY_END, ForkValues, IsoklError

# Tokens of a text that are read at a time, and of forks that stand in one row: what bounds the memory that
# masks take.
STEP, FORKS = 256, 1024


@dataclass(frozen=True)
class _Fork:
    """One reply to interrupt: which steered rollout, which fork point, and the ids that interrupt it.
    columns: where in the result it stands; a reply may end at a fork point."""

    dose: int
    prompt: int
    point: int
    columns: tuple[int, ...]
    suffix: tuple[int, ...]


@torch.inference_mode()
def fork(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    tokens: Ints,
    steering: Steering,
    doses: Sequence[float],
    points: Sequence[int],
    answer: AnswerTokens,
    snapshots: Sequence[CacheSnapshot] = (),
) -> ForkValues:
    """Answer probabilities at every fork point of rollouts, which `branch_pmass` is made of.

    All forks of a rollout are read in one pass; models that cannot be told which token sees which (those with
    a recurrent state, for one) replay every fork from the start, with the same result.

    Args:
        lm: the model.
        prompts: token ids of n prompts.
        tokens: [k, n, t], what was written; −1 after the end.
        steering: what wrote it.
        doses: the k doses at which it was written, and is forked.
        points: numbers of tokens after which the reply is cut, and REPLY_END: the end of what is given of
            each reply, without its EOS.
        answer: what forces an answer, and the tokens that write each.
        snapshots: caches that these rollouts left; texts that are in none are read again.

    Returns:
        Log masses (nats) and logits, arrays [k, n, point]; NaN at a fork point that a row did not reach.

    Raises:
        IsoklError: when logits are not finite, or memory does not suffice for one row.
    """
    values = np.full((4, len(doses), len(prompts), len(points)), np.nan)
    forks = list(_forks(lm, prompts, tokens, points, answer.prefill))

    def store(some: Sequence[_Fork], logits: Tensor) -> None:
        found = _answers(logits.float(), answer)
        bad = (~found.isfinite()).any(0).nonzero()
        if len(bad):
            raise IsoklError(explain_nonfinite(lm, prompts, steering, doses[some[int(bad[0])].dose]))
        where = [(i, f.dose, f.prompt, column) for i, f in enumerate(some) for column in f.columns]
        source, dose, prompt, column = np.array(where).T
        values[:, dose, prompt, column] = found.double().cpu().numpy()[:, source]

    if forks:
        with attached(lm, steering) as edits:
            _Reader(lm, edits, prompts, tokens, doses, store).read(forks, snapshots)
    return ForkValues(points, *values)


def _answers(logits: Tensor, answer: AnswerTokens) -> Tensor:
    """[4, fork], in the order of ForkValues, from logits [fork, v]."""
    everything = logits.logsumexp(-1)
    return torch.stack(
        [
            logits[:, answer.first].logsumexp(-1) - everything,
            logits[:, answer.second].logsumexp(-1) - everything,
            logits[:, answer.first[0]],
            logits[:, answer.second[0]],
        ]
    )


def _forks(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    tokens: Ints,
    points: Sequence[int],
    prefill: str,
) -> Iterator[_Fork]:
    decode, encode = lm.tokenizer.decode, cache(lm.chat.encode)
    tail = [decode(prompt) for prompt in prompts]
    for dose, prompt in np.ndindex(*tokens.shape[:2]):
        row = tokens[dose, prompt]
        row = row[row >= 0].tolist()
        ended = bool(row) and row[-1] in lm.eos
        end = len(row) - ended
        thinks = "think>" in decode(row)  # else there is nothing to close wherever it is cut
        columns: dict[int, list[int]] = {}
        for column, point in enumerate(points):
            columns.setdefault(end if point == REPLY_END else point, []).append(column)
        for point in (point for point in columns if point <= end):
            reply = decode(row[:point]) if thinks else ""
            suffix = encode(interruption(tail[prompt], reply, point) + prefill)
            yield _Fork(dose, prompt, point, tuple(columns[point]), tuple(suffix))


@dataclass(frozen=True)
class _Reader:
    """Reads forks in batches, and stores the logits [fork, v] after each."""

    lm: LanguageModel
    edits: Edits
    prompts: Sequence[Sequence[int]]
    tokens: Ints
    doses: Sequence[float]
    store: Callable[[Sequence[_Fork], Tensor], None]

    def read(self, forks: Sequence[_Fork], snapshots: Sequence[CacheSnapshot]) -> None:
        if self.lm.takes_tree_masks:
            self._branch(forks, snapshots)
        else:
            self._replay(forks)

    def _branch(self, forks: Sequence[_Fork], snapshots: Sequence[CacheSnapshot]) -> None:
        """A row holds what its cache lacks of a rollout's text, and behind it all forks (or as many as may
        stand in a row), told apart by the mask. Where there is no cache, the text is read first."""
        by_rollout: dict[Place, list[_Fork]] = {}
        for f in sorted(forks, key=lambda f: (f.prompt, f.dose)):  # rows that may share a text are neighbours
            by_rollout.setdefault((f.dose, f.prompt), []).append(f)
        source_of = {place: source for source in snapshots for place in source.rows}
        kinds = {
            place: (source_of.get(place), max(len(f.suffix) for f in some))
            for place, some in by_rollout.items()
        }
        for source, width in dict.fromkeys(kinds.values()):  # a slot is as wide as its widest suffix
            cap = max(1, FORKS // width)
            rows = [
                some[start : start + cap]
                for place, some in by_rollout.items()
                if kinds[place] == (source, width)
                for start in range(0, len(some), cap)
            ]
            size = self._fitting(source, width, max(map(len, rows)), max(f.point for f in forks))
            in_batches(self.lm, rows, size, partial(self._read_branches, source=source))

    def _fitting(self, source: CacheSnapshot | None, width: int, slots: int, reached: int) -> int:
        """How many rows fit into memory at once."""
        fed = 1 + slots * width
        length = source.position.shape[1] if source else max(map(len, self.prompts)) + reached
        texts = self.lm.max_rows(length, read=STEP)
        return min(texts, self.lm.max_rows(length + fed, slots, fed, branched=True))

    def _read_branches(self, batch: Sequence[list[_Fork]], source: CacheSnapshot | None) -> None:
        places = [(some[0].dose, some[0].prompt) for some in batch]
        reached = [max(f.point for f in some) for some in batch]
        distinct, text = distinct_texts(
            (p, *self.tokens[d, p, :end].tolist()) for (d, p), end in zip(places, reached, strict=True)
        )
        first = [text.index(i) for i in range(len(distinct))]
        contexts = [[*self.prompts[p], *reply] for p, *reply in distinct]
        branches = [[(len(self.prompts[f.prompt]) + f.point, f.suffix) for f in batch[i]] for i in first]
        self._arrange([d for d, _ in places], torch.tensor(text, device=self.lm.device))
        cache, cached = source.take(places, first) if source else self._read_texts(contexts)
        logits = self.lm.forward_branched(branched_rows(contexts, branches, cached), cache)
        row, slot = zip(*((i, j) for i, some in enumerate(batch) for j in range(len(some))), strict=True)
        self.store([f for some in batch for f in some], logits[row, slot])

    def _read_texts(self, texts: Sequence[Sequence[int]]) -> tuple[Cache, Tensor]:
        """A cache of the texts, and the position [text, column] of each of its columns, −1 for none."""
        ids, mask = self.lm.pad_rows(texts)
        cache = self.lm.new_cache()
        for start in range(0, ids.shape[1], STEP):
            self.lm.forward(ids[:, start : start + STEP], mask[:, : start + STEP], cache)
        return cache, positions(mask)

    def _replay(self, forks: Sequence[_Fork]) -> None:
        """Every fork as a row of its own, from the first token."""
        ordered = sorted(forks, key=lambda f: (f.point, f.prompt, f.dose))
        longest = max(map(len, self.prompts)) + max(f.point + len(f.suffix) for f in forks)
        in_batches(self.lm, ordered, self.lm.max_rows(longest, read=longest), self._read_whole)

    def _read_whole(self, batch: Sequence[_Fork]) -> None:
        texts = [
            [*self.prompts[f.prompt], *self.tokens[f.dose, f.prompt, : f.point].tolist(), *f.suffix]
            for f in batch
        ]
        self._arrange([f.dose for f in batch])
        self.store(batch, self.lm.forward(*self.lm.pad_rows(texts))[:, -1])

    def _arrange(self, doses: Sequence[int], text: Tensor | None = None) -> None:
        strength = [self.doses[dose] for dose in doses]
        self.edits.arrange(torch.tensor(strength, dtype=torch.float32, device=self.lm.device), text)
