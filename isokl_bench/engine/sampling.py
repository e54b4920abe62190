"""Sampling at temperature 1, so that a text depends on its seed and prompt alone, not on its batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampler:
    """Temperature 1, by Gumbel noise drawn per (seed, prompt, token): the same at every dose."""

    seed: int

    def generator(self, prompt: Sequence[int]) -> torch.Generator:
        """The source of a prompt's noise: a uniform number per step and token of the vocabulary."""
        key = hashlib.sha256(f"{self.seed}:{list(prompt)}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)


def gumbel(uniform: Tensor) -> Tensor:
    """Gumbel noise from uniform numbers: added to logits, its largest is a sample at temperature 1."""
    return -(-uniform.clamp_min(1e-20).log()).log()
