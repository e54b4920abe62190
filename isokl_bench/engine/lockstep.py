"""Steered and base model in lockstep: one forward pass per token over all rows of a batch and their texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isokl_bench.engine.batching import PIECE, distinct_texts
from isokl_bench.engine.cache import append_texts, cut_mask, cut_rows, select_rows
from isokl_bench.engine.cache_snapshot import CacheSnapshot, Place, snapshot
from isokl_bench.engine.divergence import BROKEN_BASE, token_scores
from isokl_bench.engine.hooks import Edits
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.sampling import gumbel
from isokl_bench.engine.transcript import Ints, Transcript
from isokl_registry import IsoklError

CHECK_EVERY = 2  # tokens between two looks at which rows and doses are still needed
MOVE = 0.85  # rows are moved together when fewer than this share of them is: moving caches costs time, too
WORTH = 512  # tokens that reading a shared beginning once must save, for that takes a pass of its own


class Lockstep:
    """One batch of rows from prompt to last token.

    Row i of n is row[i] of the transcript, at dose[i]. It has written t[i] tokens, the last of them last[i],
    and reads text[i] of g; the base model reads base[i], the same unless the row has a context of its own.
    Rows that have written the same share their text, so one unsteered row serves them all. It also is the row
    of dose 0, if there is one; the m others are steered. Logits are [m steered; g unsteered], those of row i
    at at[i]. The tokens of a step are looked at, which waits for the device: what follows differs where they
    do, and a shared text is worth more than the wait.

    too_strong: asked with a dose's place. places: where in a rollout the rows stand that leave their caches;
    the others leave nothing. tell: told every few tokens how many are still to be generated at most.
    """

    def __init__(
        self,
        lm: LanguageModel,
        edits: Edits,
        transcript: Transcript,
        rows: Sequence[int],
        too_strong: Callable[[int], bool] | None,
        drafts: Ints | None,
        places: Mapping[int, Sequence[Place]],
        tell: Callable[[int], None],
    ) -> None:
        self.lm, self.edits, self.transcript = lm, edits, transcript
        self.too_strong, self.drafts, self.tell = too_strong, drafts, tell
        self.places, self.snapshots = places, list[CacheSnapshot]()
        self.row = np.array(rows)
        self.noise = {
            (prompt, sampler.seed): sampler.generator(prompt)
            for _, prompt, _, sampler in map(transcript.rows.__getitem__, rows)
            if sampler
        }
        self.t = self.last = np.zeros(len(rows), dtype=np.int64)
        self.alive = np.ones(len(rows), dtype=bool)
        self.ends = np.isin(np.arange(lm.vocab), lm.eos)  # the tokens that do
        transcript.tokens[self.row] = -1  # what a batch that ran out of memory has left
        self.text: Ints
        self.base: Ints
        self.mask: Tensor
        self.noted: list[tuple[Ints, Ints, NDArray[np.bool_], Tensor]] = []

    @property
    def dose(self) -> Ints:
        found: Ints = self.transcript.dose[self.row]
        return found

    @property
    def contexts(self) -> Ints:
        """[own and base, n], the prompts that the rows and their base rows read."""
        return np.stack([self.transcript.context[self.row], self.transcript.prompt[self.row]])

    @property
    def strength(self) -> NDArray[np.float64]:
        """[n], the doses as numbers."""
        found: NDArray[np.float64] = np.array(self.transcript.doses, dtype=np.float64)[self.dose]
        return found

    @property
    def steered(self) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = self.strength != 0
        return found

    @property
    def m(self) -> int:
        return int(self.steered.sum())

    @property
    def at(self) -> Ints:
        return np.where(self.steered, self.steered.cumsum() - 1, self.m + self.text)

    def run(self) -> None:
        drafts, logits = self._prefill()
        if logits.shape[1] > 1:
            self._verify(logits, drafts)
        else:
            self._step(logits[:, -1])
        steps = 0
        while self.alive.any():
            self._step(self._forward())
            steps += 1
            if steps % CHECK_EVERY == 0:
                self._flush()
                self._compact()
                self.tell(int((self.transcript.window[self.row] - self.t)[self.alive].sum()))
        self._flush()
        self._leave()

    def _prefill(self) -> tuple[list[tuple[int, ...]], Tensor]:
        """Read the prompts, each with the draft of its text; one row per distinct text below the branch."""
        drafts = [self._draft(row) for row in self.row]
        distinct, text = distinct_texts(
            zip(self.contexts.flatten().tolist(), [*drafts, *drafts], strict=True)
        )
        self.text, self.base = np.array(text).reshape(2, -1)
        texts = [[*self.transcript.prompts[p], *draft] for p, draft in distinct]
        ids, self.mask = self.lm.pad_rows(texts)
        self.cache = self.lm.new_cache()
        length, keep = ids.shape[1], 1 + max(map(len, drafts))
        start = self._begin(texts, length - keep) if self.lm.croppable else 0
        self._arrange()
        rows = len(texts) + self.m
        while self.lm.croppable and rows * (length - start) > PIECE:
            end = min(start + max(1, PIECE // rows), length - keep)
            if end <= start:
                break
            self.lm.forward(ids[:, start:end], self.mask[:, :end], self.cache, keep=0)
            start = end
        return drafts, self.lm.forward(ids[:, start:], self.mask, self.cache, keep=keep)

    def _begin(self, texts: Sequence[Sequence[int]], limit: int) -> int:
        """Read what all texts begin with, in one row per dose, where that is worth it. Returns how many
        columns of the batch (`limit` at most) are in the cache then."""
        size, doses = min(limit, shared(texts)), np.unique(self.strength[self.steered])
        if size < 1 or size * (len(texts) + self.m - len(doses) - 1) < WORTH:
            return 0
        self.edits.arrange(
            torch.tensor(doses, dtype=torch.float32, device=self.lm.device),
            torch.zeros(len(doses), dtype=torch.long, device=self.lm.device),
            base=1,
        )
        ids, mask = self.lm.pad_rows([texts[0][:size]])
        self.lm.forward(ids, mask, self.cache, keep=0)
        longest = max(map(len, texts))
        padding = np.array([longest - len(text) for text in texts])
        of_dose = np.searchsorted(doses, self.strength[self.steered])
        lower = [0] * len(texts), padding.tolist()
        upper = (
            [*of_dose.tolist(), *[len(doses)] * len(texts)],
            [*padding[self.text[self.steered]].tolist(), *padding.tolist()],
        )
        self.cache = cut_rows(self.cache, self.edits.split, lower, upper)
        return size

    def _draft(self, row: int) -> tuple[int, ...]:
        """What is guessed and worth feeding: after EOS and the window's last token nothing comes."""
        if self.drafts is None:
            return ()
        guess = self.drafts[row, : self.transcript.window[row] - 1]
        ended = (guess < 0) | self.ends[guess]
        return tuple(guess[: ended.argmax() if ended.any() else None].tolist())

    def _arrange(self) -> None:
        steered = self.steered
        doses = torch.tensor(self.strength[steered], dtype=torch.float32, device=self.lm.device)
        self.edits.arrange(doses, self._device(self.text[steered]), base=len(self.mask))

    def _device(self, index: Ints) -> Tensor:
        return torch.as_tensor(index, device=self.lm.device)

    def _step(self, logits: Tensor) -> None:
        """Take the rows' next tokens from logits [m + g, v]; the numbers are noted, and not waited for."""
        at = self._device(self.at)
        token = logits.max(-1).indices[at]  # argmax takes three times as long on a CPU
        if self.noise:
            self._draw(logits, at, token)
        numbers = token_scores(logits, token, at, self._device(self.m + self.base))
        self.noted.append((self.row, self.t, self.alive, numbers))
        self._write(np.flatnonzero(self.alive), token.cpu().numpy())

    def _draw(self, logits: Tensor, at: Tensor, token: Tensor) -> None:
        """Replace the tokens of rows that are sampled. Noise is drawn for rows that still need any: all that
        are alive have written equally much."""
        rows: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for i in np.flatnonzero(self.alive):
            _, prompt, _, sampler = self.transcript.rows[self.row[i]]
            if sampler:
                rows.setdefault((prompt, sampler.seed), []).append(int(i))
        for key, some in rows.items():
            noise = gumbel(torch.rand(self.lm.vocab, generator=self.noise[key])).to(self.lm.device)
            token[some] = (logits[at[some]] + noise).max(-1).indices

    def _write(self, rows: Ints, token: Ints) -> None:
        """Give `rows` the token [n] that comes next; rows end at EOS and at the window."""
        self.transcript.tokens[self.row[rows], self.t[rows]] = token[rows]
        self.last, self.t = token, self.t + self.alive
        self.alive = self.alive & ~self.ends[token] & (self.t < self.transcript.window[self.row])

    def _verify(self, logits: Tensor, drafts: list[tuple[int, ...]]) -> None:
        """Take from logits [m + g, k, v] every token up to the first that its draft did not guess (that token
        itself is right), and cut the rest out of the caches."""
        k, at, base = logits.shape[1], self.at, self.m + self.base
        token = logits.max(-1).indices[self._device(at)]
        found = token.cpu().numpy()
        begin = k - 1 - np.array([len(draft) for draft in drafts])  # the column of each row's first token
        guess = np.array([[-1] * b + [*draft, -1] for b, draft in zip(begin, drafts, strict=True)])
        column = np.arange(k)
        wrong = (column >= begin[:, None]) & (found != guess)
        first = wrong.argmax(1)  # there is one in every row: its last column guesses nothing
        row, col = np.nonzero((column >= begin[:, None]) & (column <= first[:, None]))
        chosen = token[self._device(row), self._device(col)]
        where = self._device(at[row] * k + col), self._device(base[row] * k + col)
        numbers = token_scores(logits.flatten(0, 1), chosen, *where)
        t = col - begin[row]
        self.noted.append((self.row[row], t, np.ones(len(row), dtype=bool), numbers))
        self.transcript.tokens[self.row[row], t] = found[row, col]
        self.t = first - begin
        rows = np.arange(len(self.row))
        self._write(rows, found[rows, first])
        self._flush()
        self._mark_dropped()
        self._cut(k - 1 - first, drafts)

    def _cut(self, back: Ints, drafts: list[tuple[int, ...]]) -> None:
        """Keep the rows that go on, less the last back[i] positions, and one text for all that share it."""
        rows = np.flatnonzero(self.alive)
        if not len(rows):
            return
        cut = [drafts[i][: len(drafts[i]) - back[i]] for i in rows]
        texts = list(zip(self.contexts[:, rows].flatten(), [*cut, *cut], strict=True))
        places = zip([*self.text[rows], *self.base[rows]], [*back[rows], *back[rows]], strict=True)
        # Rows that share a text may have had drafts of different length: cut it from the one that loses
        # least, so that lower and upper caches come out equally long.
        distinct = dict(sorted(zip(texts, places, strict=True), key=lambda pair: -pair[1][1]))
        order = {text: place for place, text in enumerate(distinct)}
        source, loses = (list(map(int, part)) for part in zip(*distinct.values(), strict=True))
        above = rows[self.steered[rows]]
        upper = (
            [*self.at[above].tolist(), *(self.m + s for s in source)],
            [*back[above].tolist(), *loses],
        )
        self.cache = cut_rows(self.cache, self.edits.split, (source, loses), upper)
        self.mask = cut_mask(self.mask, (source, loses))
        self._restrict(rows)
        self.text, self.base = np.array([order[text] for text in texts]).reshape(2, -1)

    def _restrict(self, rows: Ints) -> None:
        """Restrict what is known of the rows (but for their texts) to some of them."""
        self.row, self.t, self.last, self.alive = (
            part[rows] for part in (self.row, self.t, self.last, self.alive)
        )

    def _forward(self) -> Tensor:
        """Logits [m + g, v] after the rows' last tokens. A text whose rows have parted becomes several."""
        live, g = np.flatnonzero(self.alive), len(self.mask)
        texts = np.stack([self.text[live], self.base[live]])
        pairs, place = np.unique(texts * self.lm.vocab + self.last[live], return_inverse=True)
        parent, token = np.divmod(pairs, self.lm.vocab)
        fresh = np.append(False, parent[1:] == parent[:-1])
        index = np.where(fresh, g - 1 + np.cumsum(fresh), parent)
        if fresh.any():
            parents = self._device(parent[fresh])
            append_texts(self.cache, self.edits.split, self.m, g, parents)
            self.mask = torch.cat([self.mask, self.mask[parents]])
        self.text, self.base = self.text.copy(), self.base.copy()
        self.text[live], self.base[live] = index[place].reshape(2, -1)
        tokens = np.zeros((len(self.mask), 1), dtype=np.int64)
        tokens[index, 0] = token
        self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        self._arrange()
        return self.lm.forward(self._device(tokens), self.mask, self.cache)[:, -1]

    def _flush(self) -> None:
        """Move the noted numbers to the transcript, in one transfer."""
        if not self.noted:
            return
        transcript = self.transcript
        row, t, live = (np.concatenate(part) for part in list(zip(*self.noted, strict=True))[:3])
        numbers = torch.cat([values for *_, values in self.noted], -1).cpu().numpy()[:, live]
        row, t = row[live], t[live]
        for array, value in zip((transcript.kl, transcript.nll, transcript.entropy), numbers, strict=True):
            array[row, t] = value
        if not np.isfinite(numbers[1]).all():
            raise IsoklError(BROKEN_BASE)
        bad = ~np.isfinite(numbers[0])
        transcript.finite[transcript.dose[row[bad]]] = False
        for array in (transcript.kl, transcript.nll):
            array[row[bad], t[bad]] = np.inf
        self.noted.clear()
        for i in np.flatnonzero(~self.alive & transcript.complete[self.dose]):
            for array in (transcript.kl, transcript.nll, transcript.entropy):
                array[self.row[i], self.t[i] :] = np.nan

    def _mark_dropped(self) -> None:
        """End the rows of doses that are broken, or certainly too strong."""
        for dose in np.unique(self.dose[self.alive]):
            broken = not self.transcript.finite[dose]
            if broken or (self.too_strong is not None and self.too_strong(int(dose))):
                self.transcript.complete[dose] = False
        self.alive = self.alive & self.transcript.complete[self.dose]

    def _compact(self) -> None:
        """Take rows that have ended, and texts that nobody reads, out of the batch and its caches."""
        self._mark_dropped()
        rows = np.flatnonzero(self.alive)
        used, texts = np.unique(np.stack([self.text[rows], self.base[rows]]), return_inverse=True)
        if not len(rows) or (len(rows) > MOVE * len(self.row) and len(used) > MOVE * len(self.mask)):
            return
        self._leave()
        upper = np.concatenate([self.at[rows[self.steered[rows]]], self.m + used])
        select_rows(self.cache, self.edits.split, self._device(used), self._device(upper))
        self.mask = self.mask[self._device(used)]
        self._restrict(rows)
        self.text, self.base = texts.reshape(2, -1)

    def _leave(self) -> None:
        """Take snapshots of rows that have ended."""
        ended = ~self.alive & self.transcript.complete[self.dose] & self.transcript.finite[self.dose]
        leaving = [
            (i, place) for i in np.flatnonzero(ended) for place in self.places.get(int(self.row[i]), ())
        ]
        if not leaving:
            return
        rows = np.array([i for i, _ in leaving])
        places = [place for _, place in leaving]
        lengths = np.array([len(self.transcript.prompts[p]) for p in self.contexts[0, rows]])
        read = lengths + self.t[rows] - 1
        where = (self._device(part) for part in (self.text[rows], self.at[rows], read))
        self.snapshots.append(snapshot(self.cache, self.edits.split, self.mask, places, *where))


def shared(texts: Sequence[Sequence[int]]) -> int:
    """How many tokens all texts begin with."""
    ordered = sorted(map(tuple, texts))
    ends = zip(ordered[0], ordered[-1], strict=False)  # what these two share, all that come between them do
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
