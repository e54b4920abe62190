"""kl_trajectory: does the shift stay at its budget as the text goes on?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Curve, Measurement, Metric, Session


@dataclass(frozen=True)
class KlTrajectory(Metric):
    """KL(steered ‖ base) at each generated token of greedy holdout rollouts, in nats."""

    name: ClassVar[str] = "kl_trajectory"
    curves: ClassVar[tuple[Curve, ...]] = (Curve("kl", "KL(steered ‖ base)", unit="nat", is_shift=True),)
    window: int = 128

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError("window must be at least 1")

    @property
    def tokens(self) -> int:
        return self.window

    def measure(self, session: Session) -> Iterable[Measurement]:
        kl = session.rollout(self.window).kl
        yield Measurement("kl", kl, range(kl.shape[-1]), reason="the row has ended")
