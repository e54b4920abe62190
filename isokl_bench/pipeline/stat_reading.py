"""The stat on some prompts at the calibrated strength: what it is told, and the row that is stored of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from isokl_bench.bootstrap import closed
from isokl_bench.engine.rollout import Rollout, unknown_values
from isokl_bench.pipeline.intervention import Ask, Intervention
from isokl_db import Summary
from isokl_registry import IsoklError, Stat, TokenValues


@dataclass(frozen=True)
class StatReading:
    """What a stat is told: the values [prompt, token] of the steered and of the base model's rollout."""

    steered: TokenValues
    base: TokenValues

    @classmethod
    def alphas(cls, stat: Stat) -> list[float]:
        """Of the rollout that it is read from: the base model's own only where the stat needs it."""
        return [1.0, 0.0] if stat.needs_base else [1.0]

    @classmethod
    def of(cls, found: Rollout) -> StatReading:
        """From a rollout at those alphas."""
        steered = found.values(0)
        base = found.values(1) if len(found.tokens) > 1 else unknown_values(*steered.kl.shape)
        return cls(steered, base)

    @classmethod
    def checked(cls, intervention: Intervention, ask: Ask, found: Rollout) -> StatReading:
        """The same.

        Raises:
            IsoklError: when the steered model's logits are not finite.
        """
        if not found.finite[0]:
            raise IsoklError(intervention.explain(ask.texts, 1.0))
        return cls.of(found)

    @property
    def tokens(self) -> int:
        """How many tokens the stat sees."""
        return int((~np.isnan(self.steered.kl)).sum())

    def value(self, stat: Stat) -> float:
        """The stat."""
        return float(stat(self.steered, self.base))

    def row(self, stat: Stat, sign: int, metric: str, quantity: str) -> Summary:
        """The stat with its 95 % interval over prompts, as it is stored."""
        low, high = map(closed, stat.interval(self.steered, self.base))
        return Summary(
            sign=1 if sign > 0 else -1,
            metric=metric,
            quantity=quantity,
            alpha=1.0,
            n=len(self.steered.kl),
            mean=self.value(stat),
            low=low,
            high=high,
        )
