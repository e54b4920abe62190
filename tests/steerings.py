"""Steerings, prompts and answers for tests of the engine."""

from __future__ import annotations

import torch

from isokl_bench.engine.steering import Steering
from isokl_registry import REPLY_END, Answer, Site, load_registry

TEXTS = [
    "Tell me of the sea.",
    "Hi",
    "What is the longest river that you have seen, and why do you think so?",
]
ANSWER = Answer('{"value":', ("t", "T"), ("f", "F"))
POINTS = [0, 3, 7, 20, REPLY_END]


def steer(lm, spec: str, layers=(1, 2), seed: int = 0) -> Steering:
    """A steering along a random direction, scaled so that dose 1 is a visible shift."""
    generator = torch.Generator().manual_seed(seed)
    width = lm.config.hidden_size
    v = torch.nn.functional.normalize(torch.randn(width, generator=generator), dim=0)
    return Steering(load_registry().create("method", spec), {Site(layer): {"v": v} for layer in layers})
