"""random: any direction at all."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from isokl_plugins.methods.vectors import AdditiveMethod, differences, unit
from isokl_registry import Contrast, State


@dataclass(frozen=True)
class Random(AdditiveMethod):
    """The control: adds a random unit vector, y + c·v, v standard normal, then unit.

    What it gains is what any shift of the same KL gains, so a method should be read against it. The vector follows from
    the run's seed and the site, so two layers get different ones, and the activations have no part in it; a contrast that
    is zero is refused all the same, because the behavior is at fault. The dose c is a length in the residual stream;
    neither sign is a persona's side. One draw is one sample: compare with several seeds.
    """

    name: ClassVar[str] = "random"
    control: ClassVar[bool] = True

    def fit(self, contrast: Contrast) -> State:
        import torch

        differences(contrast)
        key = hashlib.sha256(f"{contrast.seed} {contrast.site}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(key[:8], "little") >> 1)
        return {"v": unit(torch.randn(contrast.positive.shape[-1], generator=generator))}
