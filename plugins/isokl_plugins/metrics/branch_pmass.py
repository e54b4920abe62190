"""branch_pmass: interrupted mid-text, can the model still answer?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import REPLY_END, Column, Curve, Measurement, Metric, Session

ENDED = "the row had ended before the fork"


@dataclass(frozen=True)
class BranchPmass(Metric):
    """Probability of the answer words when the rollout is cut at each fork point and an answer is forced.

    pmass = p(first) + p(second); p_true = p(first) / pmass; a fork after the row's end is unscored. pmass_mean is the
    mean over a prompt's scored forks, pmass_end is read at the reply's own end. pmass_change is the mean change against
    the unsteered model over the forks that both rollouts reached; forks_compared says how many those were.
    """

    name: ClassVar[str] = "branch_pmass"
    version: ClassVar[int] = 2
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "pmass_change",
            "Δ pmass",
            signed=True,
            role="side effect",
            larger_is_better=True,
            base=Column("pmass_mean"),
            note="probability of the two answers together, mean over the forks",
        ),
    )
    curves: ClassVar[tuple[Curve, ...]] = (
        Curve(
            "pmass",
            "answer mass",
            along="fork point (generated token)",
            ends=(0.0, 1.0),
            alive=0.75,
            note="mean probability of the answer words",
        ),
    )
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

        points = range(0, self.window + 1, self.every)
        forks = session.forks([*points, REPLY_END])
        with np.errstate(invalid="ignore"):  # unscored forks are NaN and stay so
            log_mass = np.logaddexp(forks.log_mass_first, forks.log_mass_second)
        everywhere = np.minimum(np.exp(log_mass), 1.0)
        pmass = everywhere[..., :-1]
        yield Measurement("pmass", pmass, points, ENDED)
        yield Measurement("pmass_end", everywhere[..., -1])
        yield Measurement("pmass_mean", np.nanmean(pmass, axis=-1))  # the first fork is always scored
        yield Measurement("pmass_change", np.nanmean(pmass - pmass[0], axis=-1))
        yield Measurement("forks_compared", (~np.isnan(pmass - pmass[0])).sum(-1).astype(float))
        p_true = np.exp(forks.log_mass_first - log_mass)[..., :-1]
        yield Measurement("p_true", p_true, points, ENDED)
