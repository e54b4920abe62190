"""Numbers of a steered next-token distribution against the base model's."""

from __future__ import annotations

import torch
from torch import Tensor

ELEMENTS = 2**24  # logits compared at once: what bounds the memory beyond the logits themselves


def compare(logits: Tensor, token: Tensor, steered: Tensor, base: Tensor) -> Tensor:
    """[4, m] float64: KL(steered ‖ base), −log p_base(token), entropy, entropy of the base; nats.

    logits: [·, v]. Pair i is row steered[i] of them against row base[i]; token: [m]."""
    size = max(1, ELEMENTS // logits.shape[-1])
    slices = [slice(start, start + size) for start in range(0, len(token), size)]
    return torch.cat([_compare(logits[steered[s]], logits[base[s]], token[s]) for s in slices], -1)


def _compare(steered: Tensor, base: Tensor, token: Tensor) -> Tensor:
    log_s, log_b = steered.log_softmax(-1), base.log_softmax(-1)
    p_s = log_s.exp()
    entropy = -(p_s * log_s).sum(-1)
    nll = -log_b.gather(-1, token[:, None])[:, 0]
    base_entropy = -(log_b.exp() * log_b).sum(-1)
    kl = log_s.sub_(log_b).mul_(p_s).sum(-1).clamp_min_(0.0)
    return torch.stack([kl, nll, entropy, base_entropy]).double()
