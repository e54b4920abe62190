"""target_logit: how far does the answer move towards the positive persona's?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_registry import Measurement, Metric, Session

if TYPE_CHECKING:
    from numpy import float64
    from numpy.typing import NDArray


@dataclass(frozen=True)
class TargetLogit(Metric):
    """Change of the target answer's logit and log-ratio against the unsteered model, paired by holdout question.

    A is the positive persona's answer, B the other. Forced at the start of the reply: target_logit = Δ logit(A),
    log_ratio = Δ [log p(A) − log p(B)]. Forced after up to `window` tokens of the model's own reply (its thinking and
    its answer are then in the text): final_log_ratio is the same difference, answer_flip is 1 where the likelier answer
    changed sides, flip_to_positive and flip_to_negative say which way.
    """

    name: ClassVar[str] = "target_logit"
    window: int = 50
    every: int = 5

    def __post_init__(self) -> None:
        if self.every < 1 or self.window < 0:
            raise ValueError("every must be at least 1 and window at least 0")

    @property
    def tokens(self) -> int:
        return self.window

    def measure(self, session: Session) -> Iterable[Measurement]:
        import numpy as np

        forks = session.forks(range(0, self.window + 1, self.every))
        first = np.asarray(session.first_is_target)
        logit = np.where(first, forks.logit_first[..., 0], forks.logit_second[..., 0])
        ratio = np.where(first, 1, -1)[:, None] * (forks.log_mass_first - forks.log_mass_second)
        start, final = ratio[..., 0], last_scored(ratio)
        side = final > 0
        yield Measurement("target_logit", logit - logit[0])
        yield Measurement("log_ratio", start - start[0])
        yield Measurement("final_log_ratio", final - final[0])
        yield Measurement("answer_flip", (side != side[0]).astype(float), share=True)
        yield Measurement("flip_to_positive", (side & ~side[0]).astype(float), share=True)
        yield Measurement("flip_to_negative", (~side & side[0]).astype(float), share=True)


def last_scored(values: NDArray[float64]) -> NDArray[float64]:
    """The last number of each row [..., fork]; forks after a row's end are NaN, and the first fork never is."""
    import numpy as np

    last = (~np.isnan(values)).sum(-1, keepdims=True) - 1
    found: NDArray[float64] = np.take_along_axis(values, last, -1)[..., 0]
    return found
