"""Interrupting rollouts: the probability of each answer when a reply is cut at a fork point and an answer is forced."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isokl_bench.engine.cache import cut_mask, cut_rows
from isokl_bench.engine.diagnose import explain_nonfinite
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.packing import distinct_texts, in_batches
from isokl_bench.engine.steering import Edits, Steering, attached
from isokl_registry import Answer, ForkValues, IsoklError

THINK_END = "\nI should answer now.</think>"


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens that write each answer, and the text that forces one."""

    prefill: str
    first: list[int]
    second: list[int]

    @classmethod
    def of(cls, answer: Answer, lm: LanguageModel) -> AnswerTokens:
        """Words of one token, else the first tokens of the words; a token that begins both answers belongs to none.

        Raises IsoklError when an answer has no token of its own."""
        sides = [[lm.chat.encode(word) for word in words] for words in (answer.first, answer.second)]
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


@dataclass(frozen=True)
class _Fork:
    """One row to answer: which steered rollout, which fork point, and the ids that interrupt it."""

    dose: int
    prompt: int
    fork: int
    point: int
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
) -> ForkValues:
    """Answer probabilities at every fork point of rollouts `tokens` [dose, prompt, token] (−1 after the end).

    The context of a row is computed once and cut at each of its forks; a hybrid model, whose cache cannot be cut,
    replays every fork from the start. A fork point that a row did not reach is NaN."""
    values = np.full((4, len(doses), len(prompts), len(points)), np.nan)
    forks = list(_forks(lm, prompts, tokens, points, answer.prefill))

    def store(some: Sequence[_Fork], logits: Tensor) -> None:
        log_p = logits.log_softmax(-1)
        found = torch.stack(
            [
                log_p[:, answer.first].logsumexp(-1),
                log_p[:, answer.second].logsumexp(-1),
                logits[:, answer.first[0]],
                logits[:, answer.second[0]],
            ]
        )
        bad = (~found.isfinite()).any(0).nonzero()
        if len(bad):
            raise IsoklError(explain_nonfinite(lm, prompts, steering, doses[some[int(bad[0])].dose]))
        where = ([f.dose for f in some], [f.prompt for f in some], [f.fork for f in some])
        values[:, *where] = found.double().cpu().numpy()

    if forks:
        with attached(lm, steering) as edits:
            answer_forks = _cut if lm.croppable else _replay
            answer_forks(lm, edits, prompts, tokens, doses, forks, store)
    return ForkValues(points, *values)


def _forks(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    tokens: NDArray[np.int64],
    points: Sequence[int],
    prefill: str,
) -> Iterator[_Fork]:
    tail = [lm.tokenizer.decode(prompt) for prompt in prompts]
    for dose, prompt in np.ndindex(*tokens.shape[:2]):
        row = tokens[dose, prompt]
        length = int((row >= 0).sum())
        ended = length > 0 and row[length - 1] in lm.eos
        for index, point in enumerate(points):
            if point <= length - ended:
                reply = lm.tokenizer.decode(row[:point].tolist()) if point else ""
                yield _Fork(
                    dose,
                    prompt,
                    index,
                    point,
                    tuple(lm.chat.encode(interruption(tail[prompt], reply, point) + prefill)),
                )


def interruption(prompt: str, reply: str, point: int) -> str:
    """What comes between a reply cut after `point` tokens and the answer's prefill: open thinking is closed."""
    text = prompt[prompt.rfind("<think>") :] if prompt.rstrip().endswith("<think>") else ""
    text += reply
    if text.rfind("<think>") > text.rfind("</think>"):
        return f"{THINK_END}\n\n"
    return "\n\n" if point else ""


def _cut(
    lm: LanguageModel,
    edits: Edits,
    prompts: Sequence[Sequence[int]],
    tokens: NDArray[np.int64],
    doses: Sequence[float],
    forks: Sequence[_Fork],
    store: Store,
) -> None:
    """One pass over prompt and rollout per row, then one pass of the suffixes per suffix length."""
    longest = max(f.point for f in forks)
    by_row: dict[tuple[int, int], list[_Fork]] = {}
    for f in forks:
        by_row.setdefault((f.dose, f.prompt), []).append(f)
    length = max(map(len, prompts)) + longest + max(len(f.suffix) for f in forks)
    fitting = lm.max_rows(length, read=length)
    contexts = max(1, fitting // (1 + max(map(len, by_row.values()))))

    def read(chunk: Sequence[tuple[int, int]]) -> None:
        written = [tokens[d, p, :longest].clip(0).tolist() for d, p in chunk]
        distinct, text = distinct_texts((p, *ids) for (_, p), ids in zip(chunk, written, strict=True))
        ids, mask = lm.pad_rows([[*prompts[p], *ids] for p, *ids in distinct])
        cache = lm.new_cache()
        strength = torch.tensor([doses[d] for d, _ in chunk], dtype=torch.float32, device=lm.device)
        edits.arrange(strength, torch.tensor(text, device=lm.device))
        lm.forward(ids, mask, cache)
        place = {row: i for i, row in enumerate(chunk)}

        def answer(some: Sequence[_Fork]) -> None:
            row = [place[f.dose, f.prompt] for f in some]
            begun, text_of = distinct_texts(
                (f.prompt, *written[i][: f.point]) for f, i in zip(some, row, strict=True)
            )
            one_each = [text_of.index(i) for i in range(len(begun))]
            lower = ([text[row[i]] for i in one_each], [longest - some[i].point for i in one_each])
            cut = cut_rows(cache, edits.split, lower, (row, [longest - f.point for f in some]))
            suffix = torch.tensor([some[i].suffix for i in one_each], device=lm.device)
            edits.arrange(strength[row], torch.tensor(text_of, device=lm.device))
            seen = torch.cat([cut_mask(mask, lower), torch.ones_like(suffix)], -1)
            store(some, lm.forward(suffix, seen, cut)[:, -1])

        mine = [f for row in chunk for f in by_row[row]]
        for width in sorted({len(f.suffix) for f in mine}):
            # forks of like length side by side: a batch is as long as its longest
            alike = sorted((f for f in mine if len(f.suffix) == width), key=lambda f: f.point)
            in_batches(lm, alike, max(1, fitting - len(chunk)), answer)

    in_batches(lm, list(by_row), contexts, read)


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
