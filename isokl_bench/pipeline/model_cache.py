"""What the runs of one process share: the model that was loaded last, and the activations read from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from isokl_bench.engine import activations
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.pipeline.device import pick_device
from isokl_bench.pipeline.plan import Plan
from isokl_registry import Site

KEPT = 8  # sets of prompts whose activations are remembered


def untold(note: str) -> None:
    """Where nobody listens."""


@dataclass
class ModelCache:
    """Loads a model when another is asked for, and reads activations when they are not known yet."""

    _lm: LanguageModel | None = None
    _key: Any = None
    _known: dict[Any, dict[Site, Tensor]] = field(default_factory=dict)

    def model(self, plan: Plan, tell: Callable[[str], None] = untold) -> LanguageModel:
        """The plan's model on its device.

        Args:
            plan: its model, dtype, chat template and device are read.
            tell: is called with what is worth saying before a model is loaded.

        Raises:
            IsoklError: when it cannot be loaded, or there is no such device.
        """
        config = plan.config
        device = pick_device(config.device)
        key = (plan.identity["model_identity"], config.dtype, config.chat_template, device)
        if self._lm is None or self._key != key:
            self._lm = self._key = None  # two models at once may be one too many
            self._known.clear()
            self._lm, self._key = load_model(plan, tell), key
        return self._lm

    def activations(
        self, lm: LanguageModel, prompts: Sequence[Sequence[int]], sites: Sequence[Site]
    ) -> dict[Site, Tensor]:
        """As `engine.activations.record`; methods that are fitted to the same prompts at the same sites share it."""
        key = (tuple(map(tuple, prompts)), tuple(sites))
        if key not in self._known:
            while len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[key] = activations.record(lm, prompts, sites)
        return dict(self._known[key])


def load_model(plan: Plan, tell: Callable[[str], None] = untold) -> LanguageModel:
    """The plan's model on its device, see `ModelCache.model`."""
    device, dtype = pick_device(plan.config.device), getattr(torch, plan.config.dtype)
    for note in plan.model.notes(dtype=dtype):
        tell(note)
    return LanguageModel(plan.model.load(device=device, dtype=dtype), plan.config.chat_template)
