"""base_nll: is the steered text still text to the base model?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Measurement, Metric, Session


@dataclass(frozen=True)
class BaseNll(Metric):
    """Mean −log p_base per token of greedy holdout text, in nats, and its ratio to the base model's own text."""

    name: ClassVar[str] = "base_nll"
    window: int = 50

    @property
    def tokens(self) -> int:
        return self.window

    def measure(self, session: Session) -> Iterable[Measurement]:
        import numpy as np

        nll = np.nanmean(session.rollout(self.window).nll, axis=-1)
        yield Measurement("nll", nll)
        # Divided by the mean over prompts: a prompt whose own text has an NLL near 0 would give a ratio without bound.
        yield Measurement("nll_ratio", nll / nll[0].mean())
