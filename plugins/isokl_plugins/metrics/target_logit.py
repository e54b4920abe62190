"""target_logit: how far does the answer move towards the positive persona's?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Measurement, Metric, Session


@dataclass(frozen=True)
class TargetLogit(Metric):
    """Change of the target answer's logit and log-ratio against the unsteered model, paired by holdout question.

    The answer is forced at the start of the reply. A is the positive persona's answer, B the other:
    target_logit = Δ logit(A), log_ratio = Δ [log p(A) − log p(B)]; answer_flip is 1 where the likelier answer changed,
    flip_to_positive and flip_to_negative say which way.
    """

    name: ClassVar[str] = "target_logit"

    def measure(self, session: Session) -> Iterable[Measurement]:
        import numpy as np

        forks = session.forks([0])
        first = np.asarray(session.first_is_target)
        logit = np.where(first, forks.logit_first[..., 0], forks.logit_second[..., 0])
        difference = (forks.log_mass_first - forks.log_mass_second)[..., 0]
        ratio = np.where(first, difference, -difference)
        side = ratio > 0
        yield Measurement("target_logit", logit - logit[0])
        yield Measurement("log_ratio", ratio - ratio[0])
        yield Measurement("answer_flip", (side != side[0]).astype(float))
        yield Measurement("flip_to_positive", (side & ~side[0]).astype(float))
        yield Measurement("flip_to_negative", (~side & side[0]).astype(float))
