"""Steered and base model walking in lockstep: one forward pass per token over all rows of a batch and their texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isokl_bench.engine.cache import append_texts, cut_mask, cut_rows, select_rows
from isokl_bench.engine.compare import compare
from isokl_bench.engine.kept import Kept, keep
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.packing import distinct_texts
from isokl_bench.engine.steering import Edits
from isokl_registry import IsoklError

if TYPE_CHECKING:
    from isokl_bench.engine.rollout import Rollout, Row, Sampler, TooStrong

Ints = NDArray[np.int64]
BROKEN_BASE = "logits of the unsteered model are not finite: use --dtype float32 or bfloat16"
CHECK_EVERY = 2  # tokens between two looks at which rows and doses are still needed
MOVE = 0.75  # rows are moved together when fewer than this share of them is: moving caches costs time, too


class Walk:
    """One batch of rows from prompt to last token.

    Row i of n is dose[i] on prompt[i], has written t[i] tokens, the last of them last[i], and reads text[i] of g: rows
    that have written the same share their text, so one unsteered row serves them all. Logits are [n steered; g
    unsteered]. The tokens of a step are looked at, which waits for the device: what follows differs where they do, and
    a shared text is worth more than the wait.
    """

    def __init__(
        self,
        lm: LanguageModel,
        edits: Edits,
        prompts: Sequence[Sequence[int]],
        doses: Sequence[float],
        rows: Sequence[Row],
        window: int,
        sampler: Sampler | None,
        too_strong: TooStrong | None,
        drafts: Ints | None,
        keep_caches: bool,
        result: Rollout,
    ) -> None:
        self.lm, self.edits, self.prompts, self.window = lm, edits, prompts, window
        self.too_strong, self.drafts, self.result = too_strong, drafts, result
        self.keep_caches, self.kept = keep_caches, list[Kept]()
        self.dose, self.prompt = np.array(rows).T
        self.strength = torch.tensor([doses[d] for d, _ in rows], dtype=torch.float32, device=lm.device)
        drawn = sorted(set(self.prompt.tolist()))
        self.noise = {p: sampler.generator(prompts[p]) for p in drawn} if sampler else None
        self.t = self.last = np.zeros(len(rows), dtype=np.int64)
        self.alive = np.ones(len(rows), dtype=bool)
        self.ends = np.isin(np.arange(lm.vocab), lm.eos)  # the tokens that do
        result.tokens[self.dose, self.prompt] = -1  # what a batch that ran out of memory has left
        self.text: Ints
        self.mask: Tensor
        self.noted: list[tuple[Ints, Ints, Ints, NDArray[np.bool_], Tensor]] = []

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
        self._flush()
        self._leave()

    def _prefill(self) -> tuple[list[tuple[int, ...]], Tensor]:
        """One pass over the prompts, each with the draft of its text; one row per distinct text below the branch."""
        drafts = [self._draft(d, p) for d, p in zip(self.dose, self.prompt, strict=True)]
        distinct, text = distinct_texts(zip(self.prompt.tolist(), drafts, strict=True))
        self.text = np.array(text)
        ids, self.mask = self.lm.pad_rows([[*self.prompts[p], *draft] for p, draft in distinct])
        self.cache = self.lm.new_cache()
        self._arrange()
        return drafts, self.lm.forward(ids, self.mask, self.cache, keep=1 + max(map(len, drafts)))

    def _draft(self, dose: int, prompt: int) -> tuple[int, ...]:
        """What is guessed and worth feeding: neither EOS nor the last token of the window says anything of a next one."""
        if self.drafts is None:
            return ()
        guess = self.drafts[dose, prompt, : self.window - 1]
        ended = (guess < 0) | self.ends[guess]
        return tuple(guess[: ended.argmax() if ended.any() else None].tolist())

    def _arrange(self) -> None:
        self.edits.arrange(self.strength, self._device(self.text), base=len(self.mask))

    def _device(self, index: Ints) -> Tensor:
        return torch.as_tensor(index, device=self.lm.device)

    def _step(self, logits: Tensor) -> None:
        """Take the steered rows' next tokens from logits [n + g, v], and note the numbers without waiting for them."""
        n = len(self.dose)
        steered = logits[:n] if self.noise is None else logits[:n] + self._gumbel()
        token = steered.argmax(-1)
        numbers = compare(logits, token, torch.arange(n, device=self.lm.device), self._device(self.text + n))
        self.noted.append((self.dose, self.prompt, self.t, self.alive, numbers))
        self._write(np.flatnonzero(self.alive), token.cpu().numpy())

    def _write(self, rows: Ints, token: Ints) -> None:
        """Give `rows` the token [n] that comes next; rows end at EOS and at the window."""
        self.result.tokens[self.dose[rows], self.prompt[rows], self.t[rows]] = token[rows]
        self.last, self.t = token, self.t + self.alive
        self.alive = self.alive & ~self.ends[token] & (self.t < self.window)

    def _gumbel(self) -> Tensor:
        assert self.noise is not None
        drawn = {p: torch.rand(self.lm.vocab, generator=g) for p, g in self.noise.items()}
        return gumbel(torch.stack([drawn[p] for p in self.prompt.tolist()])).to(self.lm.device)

    def _verify(self, logits: Tensor, drafts: list[tuple[int, ...]]) -> None:
        """Take from logits [n + g, k, v] every token up to the first that its draft did not guess (that token itself is
        right), and cut the rest out of the caches."""
        n, k = len(self.dose), logits.shape[1]
        token = logits[:n].argmax(-1)
        found = token.cpu().numpy()
        begin = k - 1 - np.array([len(draft) for draft in drafts])  # the column of each row's first token
        guess = np.array([[-1] * b + [*draft, -1] for b, draft in zip(begin, drafts, strict=True)])
        column = np.arange(k)
        wrong = (column >= begin[:, None]) & (found != guess)
        first = wrong.argmax(1)  # there is one in every row: its last column guesses nothing
        row, at = np.nonzero((column >= begin[:, None]) & (column <= first[:, None]))
        chosen = token[self._device(row), self._device(at)]
        where = self._device(row * k + at), self._device((n + self.text[row]) * k + at)
        numbers = compare(logits.flatten(0, 1), chosen, *where)
        t = at - begin[row]
        self.noted.append((self.dose[row], self.prompt[row], t, np.ones(len(row), dtype=bool), numbers))
        self.result.tokens[self.dose[row], self.prompt[row], t] = found[row, at]
        self.t = first - begin
        self._write(np.arange(n), found[np.arange(n), first])
        self._flush()
        self._mark_dropped()
        self._cut(k - 1 - first, drafts)

    def _cut(self, back: Ints, drafts: list[tuple[int, ...]]) -> None:
        """Keep the rows that go on, without the last back[i] positions, and one text for all that have the same."""
        rows = np.flatnonzero(self.alive)
        if not len(rows):
            return
        n = len(self.dose)
        texts = [(self.prompt[i], drafts[i][: len(drafts[i]) - back[i]]) for i in rows]
        # Rows that share a text may have had drafts of different length: cut it from the one that loses least, so that
        # lower and upper caches come out equally long.
        ordered = sorted(zip(texts, rows, strict=True), key=lambda pair: -back[pair[1]])
        distinct = {text: (self.text[i], back[i]) for text, i in ordered}
        order = {text: place for place, text in enumerate(distinct)}
        source, loses = (list(map(int, part)) for part in zip(*distinct.values(), strict=True))
        upper = ([*rows.tolist(), *(n + s for s in source)], [*back[rows].tolist(), *loses])
        self.cache = cut_rows(self.cache, self.edits.split, (source, loses), upper)
        self.mask = cut_mask(self.mask, (source, loses))
        self.text = np.array([order[text] for text in texts])
        self._keep(rows)

    def _keep(self, rows: Ints) -> None:
        """Restrict what is known of the rows (but for their texts) to some of them."""
        self.dose, self.prompt, self.t = self.dose[rows], self.prompt[rows], self.t[rows]
        self.last, self.alive = self.last[rows], self.alive[rows]
        self.strength = self.strength[self._device(rows)]

    def _forward(self) -> Tensor:
        """Logits [n + g, v] after each row's last token. A text whose rows have gone apart becomes several."""
        live, g = np.flatnonzero(self.alive), len(self.mask)
        pairs, place = np.unique(self.text[live] * self.lm.vocab + self.last[live], return_inverse=True)
        parent, token = np.divmod(pairs, self.lm.vocab)
        fresh = np.append(False, parent[1:] == parent[:-1])
        index = np.where(fresh, g - 1 + np.cumsum(fresh), parent)
        if fresh.any():
            parents = self._device(parent[fresh])
            append_texts(self.cache, self.edits.split, len(self.dose), g, parents)
            self.mask = torch.cat([self.mask, self.mask[parents]])
        self.text = self.text.copy()
        self.text[live] = index[place]
        tokens = np.zeros((len(self.mask), 1), dtype=np.int64)
        tokens[index, 0] = token
        self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
        self._arrange()
        return self.lm.forward(self._device(tokens), self.mask, self.cache)[:, -1]

    def _flush(self) -> None:
        """Move the noted numbers to the result, in one transfer."""
        if not self.noted:
            return
        r = self.result
        dose, prompt, t, live = (np.concatenate(part) for part in list(zip(*self.noted, strict=True))[:4])
        numbers = torch.cat([values for *_, values in self.noted], -1).cpu().numpy()[:, live]
        dose, prompt, t = dose[live], prompt[live], t[live]
        for array, value in zip((r.kl, r.nll, r.entropy, r.base_entropy), numbers, strict=True):
            array[dose, prompt, t] = value
        bad = ~np.isfinite(numbers[0])
        r.finite[dose[bad]] = False
        for array in (r.kl, r.nll):
            array[dose[bad], prompt[bad], t[bad]] = np.inf
        if not np.isfinite(numbers[3]).all():
            raise IsoklError(BROKEN_BASE)
        self.noted.clear()
        for i in np.flatnonzero(~self.alive):
            if r.complete[self.dose[i]]:
                for array in (r.kl, r.nll, r.entropy, r.base_entropy):
                    array[self.dose[i], self.prompt[i], self.t[i] :] = np.nan

    def _mark_dropped(self) -> None:
        """End the rows of doses that are broken, or certainly too strong."""
        for dose in np.unique(self.dose[self.alive]):
            broken = not self.result.finite[dose]
            if broken or (
                self.too_strong is not None and self.too_strong(int(dose), self.result.values(dose))
            ):
                self.result.complete[dose] = False
        self.alive = self.alive & self.result.complete[self.dose]

    def _compact(self) -> None:
        """Take rows that have ended, and texts that nobody reads, out of the batch and its caches."""
        self._mark_dropped()
        n, rows = len(self.dose), np.flatnonzero(self.alive)
        used, text = np.unique(self.text[rows], return_inverse=True)
        if not len(rows) or (len(rows) > MOVE * n and len(used) > MOVE * len(self.mask)):
            return
        self._leave()
        upper = np.concatenate([rows, n + used])
        select_rows(self.cache, self.edits.split, self._device(used), self._device(upper))
        self.mask, self.text = self.mask[self._device(used)], text
        self._keep(rows)

    def _leave(self) -> None:
        """Keep the caches of rows that have ended."""
        rows = np.flatnonzero(~self.alive & self.result.complete[self.dose] & self.result.finite[self.dose])
        if not self.keep_caches or not len(rows):
            return
        which = list(zip(self.dose[rows].tolist(), self.prompt[rows].tolist(), strict=True))
        read = np.array([len(self.prompts[p]) for _, p in which]) + self.t[rows] - 1
        places = (self._device(part) for part in (self.text[rows], rows, read))
        self.kept.append(keep(self.cache, self.edits.split, self.mask, which, *places))


def gumbel(uniform: Tensor) -> Tensor:
    """Gumbel noise from uniform numbers: added to logits, its largest is a sample at temperature 1."""
    return -(-uniform.clamp_min(1e-20).log()).log()
