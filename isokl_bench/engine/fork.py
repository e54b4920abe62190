"""Interrupting rollouts: the probability of each answer when a reply is cut at a fork point and an answer is forced."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import Cache

from isokl_bench.engine.batching import distinct_texts, in_batches
from isokl_bench.engine.cache import positions
from isokl_bench.engine.cache_snapshot import CacheSnapshot, Row
from isokl_bench.engine.diagnose import explain_nonfinite
from isokl_bench.engine.hooks import Edits, attached
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.steering import Steering
from isokl_bench.engine.tree_mask import pack
from isokl_registry import REPLY_END, Answer, ForkValues, IsoklError

# Tokens of a text that are read at a time, and of forks that stand in one row: what bounds the memory that masks take.
PIECE, FORKS = 256, 1024
THINK_END = "\nI should answer now.</think>"


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens that write each answer, and the text that forces one."""

    prefill: str
    first: list[int]
    second: list[int]

    @classmethod
    def of(cls, answer: Answer, lm: LanguageModel) -> AnswerTokens:
        """Words of one token, quoted or not, else the first tokens of the words; a token that begins both answers
        belongs to none.

        Raises IsoklError when an answer has no token of its own, or nothing forces it."""
        if not lm.chat.encode(answer.prefill):
            raise IsoklError(
                "the text that forces an answer is empty: give the prefill that comes before its words"
            )
        sides = [
            [lm.chat.encode(word) for word in spellings(words)] for words in (answer.first, answer.second)
        ]
        whole = [list(dict.fromkeys(ids[0] for ids in side if len(ids) == 1)) for side in sides]
        begun = [list(dict.fromkeys(ids[0] for ids in side if ids)) for side in sides]
        first, second = (w or b for w, b in zip(whole, begun, strict=True))
        shared = set(first) & set(second)
        first, second = ([t for t in side if t not in shared] for side in (first, second))
        if not first or not second:
            words = answer.first if not first else answer.second
            raise IsoklError(
                f"this tokenizer begins the answers {', '.join(map(repr, answer.first))} and "
                f"{', '.join(map(repr, answer.second))} with the same token, so {words[0]!r} cannot be told apart: "
                "choose other answer words"
            )
        return cls(answer.prefill, first, second)


def spellings(words: Sequence[str]) -> list[str]:
    """The words, then the same behind an opening quote: `"true` is an answer, too."""
    return [*words, *(re.sub(r"^\s*", r'\g<0>"', word) for word in words)]


@dataclass(frozen=True)
class _Fork:
    """One row to answer: which steered rollout, which fork point, and the ids that interrupt it. columns: where in the
    result it stands; a reply may end at a fork point."""

    dose: int
    prompt: int
    point: int
    columns: tuple[int, ...]
    suffix: tuple[int, ...]


Store = Callable[[Sequence[_Fork], Tensor], None]


@torch.inference_mode()
def fork(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    tokens: NDArray[np.int64],
    steering: Steering,
    doses: Sequence[float],
    points: Sequence[int],
    answer: AnswerTokens,
    kept: Sequence[CacheSnapshot] = (),
) -> ForkValues:
    """Answer probabilities at every fork point of rollouts `tokens` [dose, prompt, token] (−1 after the end).

    points: numbers of tokens, and REPLY_END: the end of what is given of each reply, without its EOS. kept: caches that
    these rollouts left; texts that are in none are read again. All forks of a rollout are read in one
    pass; models that cannot be told which token sees which (those with a recurrent state, for one) replay every fork
    from the start. A fork point that a row did not reach is NaN."""
    values = np.full((4, len(doses), len(prompts), len(points)), np.nan)
    forks = list(_forks(lm, prompts, tokens, points, answer.prefill))

    def store(some: Sequence[_Fork], logits: Tensor) -> None:
        logits = logits.float()
        everything = logits.logsumexp(-1)
        found = torch.stack(
            [
                logits[:, answer.first].logsumexp(-1) - everything,
                logits[:, answer.second].logsumexp(-1) - everything,
                logits[:, answer.first[0]],
                logits[:, answer.second[0]],
            ]
        )
        bad = (~found.isfinite()).any(0).nonzero()
        if len(bad):
            raise IsoklError(explain_nonfinite(lm, prompts, steering, doses[some[int(bad[0])].dose]))
        where = [(i, f.dose, f.prompt, column) for i, f in enumerate(some) for column in f.columns]
        source, dose, prompt, column = np.array(where).T
        values[:, dose, prompt, column] = found.double().cpu().numpy()[:, source]

    if forks:
        with attached(lm, steering) as edits:
            if lm.packable:
                _pack(lm, edits, prompts, tokens, doses, forks, store, kept)
            else:
                _replay(lm, edits, prompts, tokens, doses, forks, store)
    return ForkValues(points, *values)


def _forks(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    tokens: NDArray[np.int64],
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


def interruption(prompt: str, reply: str, point: int) -> str:
    """What comes between a reply cut after `point` tokens and the answer's prefill: open thinking is closed."""
    text = prompt[prompt.rfind("<think>") :] if prompt.rstrip().endswith("<think>") else ""
    text += reply
    if text.rfind("<think>") > text.rfind("</think>"):
        return f"{THINK_END}\n\n"
    return "\n\n" if point else ""


def _pack(
    lm: LanguageModel,
    edits: Edits,
    prompts: Sequence[Sequence[int]],
    tokens: NDArray[np.int64],
    doses: Sequence[float],
    forks: Sequence[_Fork],
    store: Store,
    kept: Sequence[CacheSnapshot],
) -> None:
    """A row holds what its cache lacks of a rollout's text, and behind it all forks (or as many as may stand in a row), told
    apart by the mask. Where there is no cache, the text is read first."""
    by_row: dict[Row, list[_Fork]] = {}
    for f in sorted(forks, key=lambda f: (f.prompt, f.dose)):  # rows that may share their text are neighbours
        by_row.setdefault((f.dose, f.prompt), []).append(f)

    def read(chunk: Sequence[list[_Fork]], source: CacheSnapshot | None) -> None:
        rows = [(some[0].dose, some[0].prompt) for some in chunk]
        reached = [max(f.point for f in some) for some in chunk]
        distinct, text = distinct_texts(
            (p, *tokens[d, p, :end].tolist()) for (d, p), end in zip(rows, reached, strict=True)
        )
        first = [text.index(i) for i in range(len(distinct))]
        contexts = [[*prompts[p], *reply] for p, *reply in distinct]
        branches = [[(len(prompts[f.prompt]) + f.point, f.suffix) for f in chunk[i]] for i in first]
        strength = torch.tensor([doses[d] for d, _ in rows], dtype=torch.float32, device=lm.device)
        edits.arrange(strength, torch.tensor(text, device=lm.device))
        cache, cached = source.take(rows, first) if source else _read(lm, contexts)
        logits = lm.forward_branched(pack(contexts, branches, cached), cache)
        row, slot = zip(*((i, j) for i, some in enumerate(chunk) for j in range(len(some))), strict=True)
        store([f for some in chunk for f in some], logits[row, slot])

    source_of = {row: source for source in kept for row in source.rows}
    kinds = {row: (source_of.get(row), max(len(f.suffix) for f in some)) for row, some in by_row.items()}
    for source, width in dict.fromkeys(kinds.values()):  # a slot is as wide as its widest suffix
        cap = max(1, FORKS // width)
        parts = [
            some[start : start + cap]
            for row, some in by_row.items()
            if kinds[row] == (source, width)
            for start in range(0, len(some), cap)
        ]
        most = max(map(len, parts))
        fed = 1 + most * width
        length = source.position.shape[1] if source else max(map(len, prompts)) + max(f.point for f in forks)
        fitting = min(lm.max_rows(length, read=PIECE), lm.max_rows(length + fed, most, fed, packed=True))
        in_batches(lm, parts, fitting, partial(read, source=source))


def _read(lm: LanguageModel, texts: Sequence[Sequence[int]]) -> tuple[Cache, Tensor]:
    """A cache of the texts, and the position [text, column] that each of its columns holds, −1 for none."""
    ids, mask = lm.pad_rows(texts)
    cache = lm.new_cache()
    for start in range(0, ids.shape[1], PIECE):
        lm.forward(ids[:, start : start + PIECE], mask[:, : start + PIECE], cache)
    return cache, positions(mask)


def _replay(
    lm: LanguageModel,
    edits: Edits,
    prompts: Sequence[Sequence[int]],
    tokens: NDArray[np.int64],
    doses: Sequence[float],
    forks: Sequence[_Fork],
    store: Store,
) -> None:
    """Every fork as a row of its own, from the first token."""

    def answer(some: Sequence[_Fork]) -> None:
        texts = [[*prompts[f.prompt], *tokens[f.dose, f.prompt, : f.point].tolist(), *f.suffix] for f in some]
        edits.arrange(torch.tensor([doses[f.dose] for f in some], dtype=torch.float32, device=lm.device))
        store(some, lm.forward(*lm.pad_rows(texts))[:, -1])

    ordered = sorted(forks, key=lambda f: (f.point, f.prompt, f.dose))
    longest = max(map(len, prompts)) + max(f.point + len(f.suffix) for f in forks)
    in_batches(lm, ordered, lm.max_rows(longest, read=longest), answer)
