"""target_logit: how far does the answer move towards the positive persona's?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import REPLY_END, Column, Count, Measurement, Metric, Session


@dataclass(frozen=True)
class TargetLogit(Metric):
    """Change of the target answer's log-ratio and logit against the unsteered model, paired by holdout question.

    A is the positive persona's answer, B the other. Forced at the start of the reply: answer_log_ratio =
    log p(A) − log p(B), log_ratio is its change and the headline effect, target_logit = Δ logit(A) (which also falls when
    both answers do). Forced at the reply's own end, or after `window` tokens of it: final_answer_log_ratio and
    final_log_ratio are the same there, answer_flip is 1 where the likelier answer changed sides. flip_to_positive is
    the share of questions that moved to A of those that had answered B, flip_to_negative the reverse.
    """

    name: ClassVar[str] = "target_logit"
    version: ClassVar[int] = 2
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "log_ratio",
            "Δ log-ratio",
            unit="nat",
            signed=True,
            role="headline",
            base=Column("answer_log_ratio", unit="nat", signed=True),
            later="final_log_ratio",
            when="at the start of the reply",
            note="log p(target answer) − log p(other), forced at the start of the reply",
        ),
        Column(
            "final_log_ratio",
            "Δ final log-ratio",
            short="after reply",
            unit="nat",
            signed=True,
            role="effect",
            base=Column("final_answer_log_ratio", unit="nat", signed=True),
            when="after the reply",
            note="the same, forced after the reply",
        ),
        Column(
            "target_logit",
            "Δ target logit",
            short="Δ logit",
            signed=True,
            places=("table",),
            note="of the target answer alone, at the start: it falls when both answers do",
        ),
        Column(
            "answer_flip",
            "flips",
            counts=(Count("flip_to_positive", "on −", "→ +"), Count("flip_to_negative", "on +", "→ −")),
            places=("summary",),
            note="answers after the reply that changed sides, of those that could",
        ),
    )
    window: int = 50

    def __post_init__(self) -> None:
        if self.window < 0:
            raise ValueError("window must be at least 0")

    @property
    def tokens(self) -> int:
        return self.window

    def measure(self, session: Session) -> Iterable[Measurement]:
        import numpy as np

        forks = session.forks([0, self.window, REPLY_END])
        first = np.asarray(session.first_is_target)
        logit = np.where(first, forks.logit_first[..., 0], forks.logit_second[..., 0])
        ratio = np.where(first, 1, -1)[:, None] * (forks.log_mass_first - forks.log_mass_second)
        start, final = ratio[..., 0], ratio[..., -1]
        side = final > 0
        yield Measurement("target_logit", logit - logit[0])
        yield Measurement("answer_log_ratio", start)
        yield Measurement("log_ratio", start - start[0])
        yield Measurement("final_answer_log_ratio", final)
        yield Measurement("final_log_ratio", final - final[0])
        yield Measurement("answer_flip", (side != side[0]).astype(float), share=True)
        to_positive, to_negative = np.where(side[0], np.nan, side), np.where(side[0], ~side, np.nan)
        yield Measurement("flip_to_positive", to_positive, reason="the answer was A already", share=True)
        yield Measurement("flip_to_negative", to_negative, reason="the answer was B already", share=True)
