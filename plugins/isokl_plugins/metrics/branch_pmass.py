"""branch_pmass: interrupted mid-text, can the model still answer?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import Measurement, Metric, Session

ENDED = "the row had ended before the fork"


@dataclass(frozen=True)
class BranchPmass(Metric):
    """Probability of the answer words when the rollout is cut at each fork point and an answer is forced.

    pmass = p(first) + p(second); p_true = p(first) / pmass. A fork after the row's end is unscored. pmass_change is
    the mean over a prompt's scored forks minus the same without steering, paired by prompt: a steered reply that does
    not stop where the unsteered one did is judged on all its forks.
    """

    name: ClassVar[str] = "branch_pmass"
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
        with np.errstate(invalid="ignore"):  # unscored forks are NaN and stay so
            log_mass = np.logaddexp(forks.log_mass_first, forks.log_mass_second)
        pmass = np.minimum(np.exp(log_mass), 1.0)
        yield Measurement("pmass", pmass, forks.points, ENDED)
        mean = np.nanmean(pmass, axis=-1)  # over what each rollout reached; the first fork is always scored
        yield Measurement("pmass_change", mean - mean[0])
        yield Measurement("p_true", np.exp(forks.log_mass_first - log_mass), forks.points, ENDED)
