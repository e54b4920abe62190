"""Steered and base model walking in lockstep: one forward pass per token over all doses × prompts and their base rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.steering import Edits, Steering, attached
from isokl_registry import IsoklError, TokenValues

Array = NDArray[np.float64]
CHECK_EVERY = (
    4  # tokens between two looks at which rows and doses are still needed: each look waits for the device
)
KL_ELEMENTS = 2**25  # logits compared at once


@dataclass
class Rollout:
    """What a rollout leaves, each array [dose, prompt, token]; NaN (tokens: -1) where a row has ended.

    tokens: ids the steered model wrote. kl: KL(steered ‖ base), nats. nll: −log p_base of the token. entropy,
    base_entropy: of both next-token distributions, nats. complete: [dose], False where the dose was dropped early;
    its missing tokens are then 0. finite: [dose], False where logits were NaN or infinite; kl is infinite there.
    """

    tokens: NDArray[np.int64]
    kl: Array
    nll: Array
    entropy: Array
    base_entropy: Array
    complete: NDArray[np.bool_]
    finite: NDArray[np.bool_]

    def values(self, dose: int) -> TokenValues:
        """The arrays of one dose, as stats take them."""
        return TokenValues(self.kl[dose], self.nll[dose])


TooStrong = Callable[[TokenValues], bool]


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
) -> Rollout:
    """Generate `window` tokens (fewer after EOS) from every prompt at every dose.

    prompts: token ids. sampler: None for greedy. too_strong: asked every few tokens with what a dose has produced so
    far (0 for what is still to come); True drops the dose. Raises IsoklError when the base model's logits are not
    finite.
    """
    result = _empty(len(doses), len(prompts), window)
    rows = [(dose, prompt) for dose in range(len(doses)) for prompt in range(len(prompts))]
    size = max(1, lm.max_rows(max(map(len, prompts)) + window) // 2)
    with attached(lm, steering) as edits:
        for start in range(0, len(rows), size):
            chunk = [row for row in rows[start : start + size] if result.complete[row[0]]]
            if chunk:
                _Walk(lm, edits, prompts, doses, chunk, window, sampler, result, too_strong).run()
    return result


class _Walk:
    """One batch of rows from prefill to the last token. Rows [steered; base], row i + n the base of row i."""

    def __init__(
        self,
        lm: LanguageModel,
        edits: Edits,
        prompts: Sequence[Sequence[int]],
        doses: Sequence[float],
        rows: list[tuple[int, int]],
        window: int,
        sampler: Sampler | None,
        result: Rollout,
        too_strong: TooStrong | None,
    ) -> None:
        self.lm, self.edits, self.prompts, self.window = lm, edits, prompts, window
        self.result, self.too_strong = result, too_strong
        self.dose = np.array([d for d, _ in rows])
        self.prompt = np.array([p for _, p in rows])
        self.strength = torch.tensor([doses[d] for d, _ in rows], dtype=torch.float32, device=lm.device)
        self.noise = (
            {p: sampler.generator(prompts[p]) for p in sorted(set(self.prompt.tolist()))} if sampler else None
        )
        self.alive = torch.ones(len(rows), dtype=torch.bool, device=lm.device)
        self.eos = torch.tensor(lm.eos, dtype=torch.long, device=lm.device)
        self.mask: Tensor
        self.pending: list[tuple[NDArray[np.int64], NDArray[np.int64], int, list[Tensor]]] = []

    def run(self) -> None:
        logits = self._prefill()
        for t in range(self.window):
            token = self._step(logits, t)
            if t + 1 == self.window:
                break
            if (t + 1) % CHECK_EVERY == 0:
                token = self._compact(token, t + 1)
                if not len(token):
                    break
            self.mask = torch.nn.functional.pad(self.mask, (0, 1), value=1)
            logits = self.lm.forward(torch.cat([token, token])[:, None], self.mask, self.cache)
        self._flush(self.window)

    def _prefill(self) -> Tensor:
        """Steered rows in full, base rows once per prompt and then spread over their steered rows."""
        distinct = sorted(set(self.prompt.tolist()))
        n = len(self.dose)
        ids, mask = self.lm.pad_rows([self.prompts[p] for p in [*self.prompt.tolist(), *distinct]])
        self.cache = self.lm.new_cache()
        self.edits.set_doses(self.strength)
        logits = self.lm.forward(ids, mask, self.cache)
        order = [*range(n), *(n + distinct.index(p) for p in self.prompt.tolist())]
        return self._select(torch.tensor(order, device=self.lm.device), mask, logits)

    def _select(self, index: Tensor, mask: Tensor, logits: Tensor) -> Tensor:
        self.cache.reorder_cache(index)
        self.mask = mask[index]
        return logits[index]

    def _step(self, logits: Tensor, t: int) -> Tensor:
        """Compare the two halves, choose the steered rows' tokens, note the numbers; no wait for the device."""
        n = len(self.dose)
        steered, base = logits[:n], logits[n:]
        token = (steered if self.noise is None else steered + self._gumbel()).argmax(-1)
        numbers = [torch.where(self.alive, x, torch.nan) for x in compare(steered, base, token)]
        chosen = torch.where(self.alive, token, -1)
        self.pending.append((self.dose, self.prompt, t, [chosen.double(), *numbers]))
        self.alive = self.alive & ~torch.isin(token, self.eos)
        return token

    def _gumbel(self) -> Tensor:
        assert self.noise is not None
        drawn = {p: torch.rand(self.lm.vocab, generator=g) for p, g in self.noise.items()}
        uniform = torch.stack([drawn[p] for p in self.prompt.tolist()]).clamp_min(1e-20)
        return (-(-uniform.log()).log()).to(self.lm.device)

    def _flush(self, upto: int) -> None:
        """Move the noted numbers to the result; from here on the rows' own ends are known."""
        r = self.result
        for dose, prompt, t, noted in self.pending:
            values = torch.stack(noted).cpu().numpy()
            r.tokens[dose, prompt, t] = values[0].astype(np.int64)
            for array, value in zip((r.kl, r.nll, r.entropy, r.base_entropy), values[1:], strict=True):
                array[dose, prompt, t] = value
            ended = values[0] < 0
            bad = ~ended & ~np.isfinite(values[1])
            if bad.any():
                r.finite[np.unique(dose[bad])] = False
                r.kl[dose[bad], prompt[bad], t] = np.inf
            if not np.isfinite(values[4][~ended]).all():
                raise IsoklError(
                    "logits of the unsteered model are not finite: use --dtype float32 or bfloat16"
                )
        self.pending.clear()

    def _compact(self, token: Tensor, upto: int) -> Tensor:
        """Take rows that have ended, and doses that are certainly too strong, out of the batch and its caches."""
        self._flush(upto)
        alive = self.alive.cpu().numpy()
        for dose, prompt in zip(self.dose[~alive], self.prompt[~alive], strict=True):
            for array in (self.result.kl, self.result.nll, self.result.entropy, self.result.base_entropy):
                array[dose, prompt, upto:] = np.nan
        keep = alive & ~np.isin(self.dose, [d for d in np.unique(self.dose) if self._drop(int(d))])
        if (
            keep.sum() > 0.75 * len(keep) and keep.any()
        ):  # moving caches for a few rows costs more than it saves
            return token
        index = torch.tensor(np.flatnonzero(keep), device=self.lm.device)
        n = len(self.dose)
        self.dose, self.prompt = self.dose[keep], self.prompt[keep]
        self.strength, self.alive, token = self.strength[index], self.alive[index], token[index]
        self.edits.set_doses(self.strength)
        both = torch.cat([index, index + n])
        self.cache.reorder_cache(both)
        self.mask = self.mask[both]
        return token

    def _drop(self, dose: int) -> bool:
        if not self.result.finite[dose] or (
            self.too_strong is not None and self.too_strong(self.result.values(dose))
        ):
            self.result.complete[dose] = False
        return not self.result.complete[dose]


def compare(steered: Tensor, base: Tensor, token: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """kl, nll, entropy and base entropy per row [b] from two rows of logits [b, v], in slices of bounded size."""
    rows = max(1, KL_ELEMENTS // steered.shape[-1])
    parts = []
    for start in range(0, len(token), rows):
        s, b, tok = (x[start : start + rows] for x in (steered, base, token))
        log_s, log_b = s.log_softmax(-1), b.log_softmax(-1)
        p_s = log_s.exp()
        parts.append(
            torch.stack(
                [
                    (p_s * (log_s - log_b)).sum(-1).clamp_min(0.0),
                    -log_b.gather(-1, tok[:, None])[:, 0],
                    -(p_s * log_s).sum(-1),
                    -(log_b.exp() * log_b).sum(-1),
                ]
            ).double()
        )
    kl, nll, entropy, base_entropy = torch.cat(parts, -1)
    return kl, nll, entropy, base_entropy


def _empty(doses: int, prompts: int, window: int) -> Rollout:
    shape = (doses, prompts, window)
    kl, nll, entropy, base_entropy = (np.zeros(shape) for _ in range(4))
    complete, finite = (np.ones(doses, dtype=bool) for _ in range(2))
    return Rollout(np.full(shape, -1, dtype=np.int64), kl, nll, entropy, base_entropy, complete, finite)
