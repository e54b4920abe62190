"""base_nll: is the steered text still text to the base model?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Column, Measurement, Metric, Session


@dataclass(frozen=True)
class BaseNll(Metric):
    """Mean −log p_base per token of greedy holdout text, in nats, and its ratio to the base model's own text."""

    name: ClassVar[str] = "base_nll"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "nll_ratio",
            "NLL ratio",
            role="side effect",
            larger_is_better=False,
            base=Column("nll", unit="nat"),
            note="base-model surprise at the steered text over that at its own",
        ),
    )
    window: int = 50

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError("window must be at least 1")

    @property
    def tokens(self) -> int:
        return self.window

    def measure(self, session: Session) -> Iterable[Measurement]:
        import numpy as np

        # [alpha, prompt]; the first token is always there
        nll = np.nanmean(session.rollout(self.window).nll, axis=-1)
        yield Measurement("nll", nll)
        # The ratio of the means, as one number per prompt whose mean it is, so that its interval over prompts is one of
        # the pair (the linearised ratio: numerator and denominator move together, and at alpha 0 it is 1 exactly).
        own = nll[0].mean()
        ratio = nll.mean(axis=1, keepdims=True) / own
        yield Measurement("nll_ratio", ratio + (nll - ratio * nll[0]) / own)
