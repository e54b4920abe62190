"""Numbers of a steered next-token distribution against the base model's."""

from __future__ import annotations

import torch
from torch import Tensor

# Logits compared at once. On a CPU what is compared should stay in its cache, and under the size (32 MB) from which on
# memory is asked of the system and zeroed each time; a GPU wants large pieces, and this bounds what they take.
ELEMENTS = {"cpu": 2**20}
ELSEWHERE = 2**24


def compare(logits: Tensor, token: Tensor, steered: Tensor, base: Tensor) -> Tensor:
    """[3, m] float64: KL(steered ‖ base), −log p_base(token), entropy of the steered; nats.

    logits: [·, v]. Pair i is row steered[i] of them against row base[i]; token: [m]."""
    size = max(1, ELEMENTS.get(logits.device.type, ELSEWHERE) // logits.shape[-1])
    slices = [slice(start, start + size) for start in range(0, len(token), size)]
    parts = [_compare(logits[steered[s]].float(), logits[base[s]].float(), token[s]) for s in slices]
    return torch.cat(parts, -1)


def _compare(steered: Tensor, base: Tensor, token: Tensor) -> Tensor:
    log_s, log_b = steered.log_softmax(-1), base.log_softmax(-1)
    p_s = log_s.exp()
    entropy = -(p_s * log_s).sum(-1)
    nll = -log_b.gather(-1, token[:, None])[:, 0]
    kl = log_s.sub_(log_b).mul_(p_s).sum(-1).clamp_min_(0.0)
    return torch.stack([kl, nll, entropy]).double()
