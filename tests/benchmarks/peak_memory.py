"""Prints, as JSON, the bytes that a wide and long rollout takes at its peak beyond the model's weights and
the caches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from isokl_bench.engine.rollout import rollout
from tests.benchmarks.subjects import random_qwen

PROMPTS, DOSES, WINDOW = 16, [0.0, 300.0, 1000.0, 3000.0], 256


def status(field: str) -> int:
    """A line of /proc/self/status, in bytes (Linux)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def main() -> None:
    subject = random_qwen(PROMPTS, blocks=4)
    lm = subject.lm
    lm.eos = ()
    rollout(lm, subject.prompts[:1], subject.steering, [0.0], 2)  # what torch sets up once
    weights = sum(parameter.nbytes for parameter in lm.model.parameters())
    caches, forward = [0], lm.forward

    def watched(ids: Tensor, mask: Tensor, cache: Any = None, keep: int = 1) -> Tensor:
        logits = forward(ids, mask, cache, keep)
        caches.append(sum(buffer.nbytes for layer in cache.layers for buffer in layer.buffers))
        return logits

    lm.forward = watched
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = status("VmRSS")
    rollout(lm, subject.prompts, subject.steering, DOSES, WINDOW)
    extra = status("VmHWM") - before - max(caches)
    print(json.dumps({"weights": weights, "caches": max(caches), "extra": extra}))


if __name__ == "__main__":
    main()
