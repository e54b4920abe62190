"""What steered and base model would say next along texts that are there already, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from isokl_bench.engine.batching import in_batches
from isokl_bench.engine.divergence import BROKEN_BASE, token_scores
from isokl_bench.engine.hooks import Edits, attached
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.steering import Steering
from isokl_bench.engine.transcript import Array
from isokl_registry import IsoklError, TokenValues


@torch.inference_mode()
def teacher_forced(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    steering: Steering,
    doses: Sequence[float],
    positions: int,
) -> tuple[list[TokenValues], TokenValues]:
    """What the next token would be after each of the last `positions` prefixes of the prompts.

    Args:
        lm: the model.
        prompts: token ids of n prompts.
        steering: what is applied, at every dose.
        doses: the k doses.
        positions: how many tokens are scored, from the last; shorter prompts have NaN in front.

    Returns:
        The values of every dose (k, arrays [n, positions]; infinite where logits are not finite), and those
        of the base model. nll is of the token that the model itself finds likeliest.

    Raises:
        IsoklError: when the base model's logits are not finite.
    """
    with attached(lm, steering) as edits:
        scores = _Scores(lm, edits, prompts, doses, positions)
        longest = max(map(len, prompts))
        size = lm.max_rows(longest, positions, read=longest) // len(prompts)
        in_batches(lm, range(len(doses)), size, scores.read)
    if np.isinf(scores.kl[-1]).any():
        raise IsoklError(BROKEN_BASE)
    *steered, base = (TokenValues(*values) for values in zip(scores.kl, scores.nll, strict=True))
    return steered, base


@dataclass
class _Scores:
    """kl, nll: [dose and base, prompt, position]."""

    lm: LanguageModel
    edits: Edits
    prompts: Sequence[Sequence[int]]
    doses: Sequence[float]
    positions: int
    kl: Array = field(init=False)
    nll: Array = field(init=False)

    def __post_init__(self) -> None:
        shape = (len(self.doses) + 1, len(self.prompts), self.positions)
        self.kl, self.nll = np.full(shape, np.nan), np.full(shape, np.nan)

    def read(self, batch: Sequence[int]) -> None:
        """Score the prompts at some of the doses, and unsteered."""
        texts = len(self.prompts)
        ids, mask = self.lm.pad_rows(self.prompts)
        keep = min(self.positions, ids.shape[1])
        text = self._arrange(batch)
        numbers = self._numbers(self.lm.forward(ids, mask, keep=keep), text)
        real = mask[:, -keep:].bool()
        numbers = torch.where(real.repeat(len(batch) + 1, 1).flatten(), numbers, torch.nan)
        kl, nll, _ = numbers.view(3, -1, texts, keep).cpu().numpy()
        bad = ~np.isfinite(kl) & real.cpu().numpy()
        where = [*batch, len(self.doses)]
        for array, values in ((self.kl, kl), (self.nll, nll)):
            array[where, :, -keep:] = np.where(bad, np.inf, values)

    def _arrange(self, batch: Sequence[int]) -> Tensor:
        """Set the edits to [doses × prompts; prompts unsteered]. Returns the text of every row, [row]."""
        texts = len(self.prompts)
        strength = torch.tensor(
            [self.doses[dose] for dose in batch], dtype=torch.float32, device=self.lm.device
        )
        text = torch.arange(texts, device=self.lm.device).repeat(len(batch) + 1)
        self.edits.arrange(strength.repeat_interleave(texts), text[:-texts], base=texts)
        return text

    def _numbers(self, logits: Tensor, text: Tensor) -> Tensor:
        """[3, row × column] of logits [row, column, v], every row against the unsteered one of its text."""
        rows, keep, _ = logits.shape
        place = torch.arange(rows * keep, device=logits.device).view(rows, keep)
        base = place[rows - len(self.prompts) :][text]
        token = logits.max(-1).indices.flatten()
        return token_scores(logits.flatten(0, 1), token, place.flatten(), base.flatten())
