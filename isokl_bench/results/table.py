"""Table 1 as numbers: what is in a row, and how runs that differ in their seed alone become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from isokl_bench.results.runs import Run
from isokl_bench.results.seeds import seed_intervals

if TYPE_CHECKING:
    from isokl_db import Store

ALPHAS = (1.0, 2.0)


class Estimate(NamedTuple):
    """A mean over n prompts, or seeds, and its 95 % interval where there is one."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval leaves 0 out."""
        return (self.low is not None and self.low > 0) or (self.high is not None and self.high < 0)

    def turned(self) -> Estimate:
        """The same towards the other side."""
        low, high = (None if end is None else -end for end in (self.high, self.low))
        return Estimate(-self.mean, low, high, self.n)


@dataclass(frozen=True)
class Quantity:
    """A stored quantity that has columns in Table 1."""

    name: str
    metric: str
    quantity: str
    alphas: tuple[float, ...]

    def key(self, alpha: float) -> str:
        """What the cell at this alpha is called, in table1.csv too."""
        return self.name if len(self.alphas) == 1 else f"{self.name}_alpha{alpha:g}"


QUANTITIES = (
    Quantity("holdout", "validation", "holdout", (1.0,)),
    Quantity("holdout_sampled", "validation", "holdout_sampled", (1.0,)),
    Quantity("base_pmass", "branch_pmass", "pmass_mean", (0.0,)),
    Quantity("log_ratio", "target_logit", "log_ratio", ALPHAS),
    Quantity("final_log_ratio", "target_logit", "final_log_ratio", ALPHAS),
    Quantity("target_logit", "target_logit", "target_logit", ALPHAS),
    Quantity("nll_ratio", "base_nll", "nll_ratio", ALPHAS),
    Quantity("pmass_change", "branch_pmass", "pmass_change", ALPHAS),
)
OF_RUN = ("calibration", "slope", "pool")  # plain numbers of a run, without an interval of their own
KEYS = (
    "coefficient",
    *OF_RUN,
    *(quantity.key(alpha) for alpha in (0.0, *ALPHAS) for quantity in QUANTITIES if alpha in quantity.alphas),
)


@dataclass
class Row:
    """One method on one behavior of one model: its runs differ in their seed only.

    estimates: by key, without what is not stored. stored: the same of each run in `reached`. holdout: prompts that
    validated each seed, None where unknown."""

    runs: list[Run]
    estimates: dict[str, Estimate] = field(default_factory=dict)
    stored: list[dict[str, Estimate]] = field(default_factory=list)
    holdout: int | None = None

    @property
    def first(self) -> Run:
        """The run that speaks for what all share."""
        return self.runs[0]

    @cached_property
    def reached(self) -> list[Run]:
        """The runs of which something is measured."""
        return [run for run in self.runs if run.reached]

    @cached_property
    def outcomes(self) -> list[tuple[str, int]]:
        """Each outcome with its number of seeds, the most frequent first."""
        return Counter(run.outcome for run in self.runs).most_common()


Stored = dict[tuple[int, int], dict[str, Estimate]]  # by attempt and sign, then by key


def table_rows(store: Store, runs: Sequence[Run]) -> list[Row]:
    """Table 1 of these runs, which come sorted as `finished_runs` sorts them."""
    grouped = groupby(runs, key=lambda run: (run.names, run.dimensions, run.other))
    rows = [Row(list(found)) for _, found in grouped]
    stored = _stored(store, {(run.attempt, run.sign) for run in runs if run.reached})
    for run in runs:
        if run.reached:
            estimates = stored[run.attempt, run.sign]
            if run.has_dose:
                estimates["coefficient"] = Estimate(*run.coefficient, run.n)
            for key, value in zip(OF_RUN, (run.value, run.slope, run.pool), strict=True):
                if value is not None:
                    estimates[key] = Estimate(value, None, None, run.n)
    _fill(rows, stored)
    return rows


def _stored(store: Store, wanted: Collection[tuple[int, int]]) -> Stored:
    """The summaries that Table 1 needs, each found by index (in the order of the joins); measurements stay unread."""
    keys = " UNION ALL ".join(
        f"SELECT '{q.key(alpha)}' AS name, '{q.metric}' AS metric, '{q.quantity}' AS quantity, {alpha} AS alpha"
        for q in QUANTITIES
        for alpha in q.alphas
    )
    answer = store.query(
        "SELECT s.attempt_id, s.sign, k.name, s.mean, s.low, s.high, s.n "
        f"FROM latest l CROSS JOIN ({keys}) k CROSS JOIN summaries s "
        "WHERE s.attempt_id = l.attempt_id AND s.metric = k.metric AND s.quantity = k.quantity "
        "AND s.alpha = k.alpha AND s.position IS NULL AND s.mean IS NOT NULL"
    )
    found: Stored = {run: {} for run in wanted}
    for attempt, sign, key, mean, low, high, n in answer.rows:
        if (estimates := found.get((attempt, sign))) is not None:
            estimates[key] = Estimate(mean, low, high, n)
    return found


def _fill(rows: Sequence[Row], stored: Stored) -> None:
    """One seed: what is stored, its interval over prompts. Several: their mean, its interval over seeds."""
    cells: list[tuple[Row, str]] = []
    samples: list[list[float]] = []
    for row in rows:
        found = row.stored = [stored[run.attempt, run.sign] for run in row.reached]
        row.holdout = found[0]["holdout"].n if found and "holdout" in found[0] else None
        if len(found) == 1:
            row.estimates = found[0]
            continue
        for key in KEYS:
            sample = [estimates[key].mean for estimates in found if key in estimates]
            if len(sample) == 1 or (sample and key in OF_RUN):
                row.estimates[key] = Estimate(fmean(sample), None, None, len(sample))
            elif sample:
                cells.append((row, key))
                samples.append(sample)
    for (row, key), sample, interval in zip(cells, samples, seed_intervals(samples), strict=True):
        row.estimates[key] = Estimate(*interval, len(sample))
