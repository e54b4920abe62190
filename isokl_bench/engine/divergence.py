"""Numbers of a steered next-token distribution against the base model's."""

from __future__ import annotations

import torch
from torch import Tensor

BROKEN_BASE = "logits of the unsteered model are not finite: use --dtype float32 or bfloat16"
# Logits read at once. On a CPU what is read should stay in its cache, and under the size (32 MB) from which
# on memory is asked of the system and zeroed each time; a GPU wants large pieces, and this bounds what they
# take.
ELEMENTS = {"cpu": 2**20}
ELSEWHERE = 2**24


def token_scores(logits: Tensor, token: Tensor, steered: Tensor, base: Tensor) -> Tensor:
    """The per-token numbers of pairs of next-token distributions.

    Args:
        logits: [rows, v], of any dtype; computed with in float32.
        token: [m], the token whose base probability is asked for.
        steered: [m], the row of the steered distribution of each pair.
        base: [m], the row of the base model's.

    Returns:
        [3, m] float64, in nats: KL(steered ‖ base) over the whole vocabulary, −log p_base(token), and the
        entropy of the steered distribution.
    """
    size = max(1, ELEMENTS.get(logits.device.type, ELSEWHERE) // logits.shape[-1])
    slices = [slice(start, start + size) for start in range(0, len(token), size)]
    parts = [_of_slice(logits[steered[s]].float(), logits[base[s]].float(), token[s]) for s in slices]
    return torch.cat(parts, -1)


def _of_slice(steered: Tensor, base: Tensor, token: Tensor) -> Tensor:
    log_s, log_b = steered.log_softmax(-1), base.log_softmax(-1)
    p_s = log_s.exp()
    entropy = -(p_s * log_s).sum(-1)
    nll = -log_b.gather(-1, token[:, None])[:, 0]
    kl = log_s.sub_(log_b).mul_(p_s).sum(-1).clamp_min_(0.0)
    return torch.stack([kl, nll, entropy]).double()
