"""Table 1 as numbers: what is in a row, and how runs that differ in their seed alone become one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple

from isokl_bench.results.declared import Measure, measures_of
from isokl_bench.results.runs import Run
from isokl_bench.results.seeds import seed_intervals
from isokl_db import Outcome

if TYPE_CHECKING:
    from isokl_db import Store

TABLE_ALPHAS = (1.0, 2.0)
OF_RUN = ("calibration", "slope", "pool")  # plain numbers of a run, without an interval of their own
HOLDOUT = ("holdout", "holdout_sampled")  # the budget's stat elsewhere


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


@dataclass
class TableRow:
    """One method on one behavior of one model: its runs differ in their seed only.

    estimates: by key, without what is not stored. stored: the same of each run in `reached`. holdout: prompts that
    validated each seed, None where unknown. headline, later: the effect that rows are ranked by at alpha 1, and the same
    after the reply; None where it is not measured."""

    runs: list[Run]
    estimates: dict[str, Estimate] = field(default_factory=dict)
    stored: list[dict[str, Estimate]] = field(default_factory=list)
    holdout: int | None = None
    headline: Measure | None = None
    later: Measure | None = None

    @property
    def first(self) -> Run:
        """The run that speaks for what all share."""
        return self.runs[0]

    @cached_property
    def reached(self) -> list[Run]:
        """The runs of which something is measured."""
        return [run for run in self.runs if run.reached]

    @cached_property
    def outcomes(self) -> list[tuple[Outcome, int]]:
        """Each outcome with its number of seeds, the most frequent first."""
        return Counter(run.outcome for run in self.runs).most_common()


Asked = tuple[str, str, float]  # metric, quantity, alpha of a summary
Stored = dict[tuple[int, int], dict[str, Estimate]]  # by attempt and sign, then by key


def in_table(measures: Sequence[Measure]) -> list[Measure]:
    """Those that have columns in Table 1."""
    return [measure for measure in measures if "table" in measure.column.places]


def keys(measures: Sequence[Measure]) -> list[str]:
    """The numbers of a row in the order of table1.csv: of the run, then what it measured, by alpha."""
    return ["coefficient", *OF_RUN, *dict.fromkeys(_asked(measures).values())]


def read_rows(store: Store, runs: Sequence[Run]) -> tuple[list[TableRow], list[Measure]]:
    """The rows of Table 1, of runs that come sorted as `finished_runs` sorts them, and what was measured in any of them."""
    grouped = groupby(runs, key=lambda run: (run.names, run.dimensions, run.other))
    rows = [TableRow(list(found)) for _, found in grouped]
    summaries = _summaries(store, {(run.attempt, run.sign) for run in runs if run.reached})
    measures = measures_of(
        {(metric, quantity) for of_run in summaries.values() for metric, quantity, _ in of_run}
    )
    names = _asked(measures)
    stored = {
        run: {names[asked]: estimate for asked, estimate in of_run.items() if estimate}
        for run, of_run in summaries.items()
    }
    for run in runs:
        if run.reached:
            stored[run.attempt, run.sign] |= _of_run(run)
    _fill(rows, stored, keys(measures))
    _find_headlines(rows, measures)
    return rows, measures


def _asked(measures: Sequence[Measure]) -> dict[Asked, str]:
    """The summaries that Table 1 shows, and what it calls them: the bases, and then by alpha."""
    shown = in_table(measures)
    bases = {(m.metric, m.column.base.quantity, 0.0): m.base_key for m in shown if m.column.base}
    checks = {("validation", quantity, 1.0): quantity for quantity in HOLDOUT}
    first, *more = (
        {(m.metric, m.column.quantity, alpha): m.key(alpha) for m in shown} for alpha in TABLE_ALPHAS
    )
    return bases | checks | first | {asked: key for of_alpha in more for asked, key in of_alpha.items()}


def _summaries(
    store: Store, wanted: Collection[tuple[int, int]]
) -> dict[tuple[int, int], dict[Asked, Estimate | None]]:
    """Of each run the summaries that Table 1 shows, None where unscored; measurements stay unread.

    Each is found by index, in the order of the joins."""
    alphas = ", ".join(map(str, TABLE_ALPHAS))
    pairs = store.query(
        f"SELECT DISTINCT metric, quantity FROM summaries WHERE position IS NULL AND alpha IN ({alphas})"
    )
    asked = list(_asked(measures_of((metric, quantity) for metric, quantity in pairs.rows)))
    places, names = _as_table(asked)
    answer = store.query(
        "SELECT s.attempt_id, s.sign, k.place, s.mean, s.low, s.high, s.n "
        f"FROM latest l CROSS JOIN ({places}) k CROSS JOIN summaries s "
        "WHERE s.attempt_id = l.attempt_id AND s.metric = k.metric AND s.quantity = k.quantity "
        "AND s.alpha = k.alpha AND s.position IS NULL",
        **names,
    )
    found: dict[tuple[int, int], dict[Asked, Estimate | None]] = {run: {} for run in wanted}
    for attempt, sign, place, mean, low, high, n in answer.rows:
        if (of_run := found.get((attempt, sign))) is not None:
            of_run[asked[place]] = None if mean is None else Estimate(mean, low, high, n)
    return found


def _as_table(asked: Sequence[Asked]) -> tuple[str, dict[str, str]]:
    """SQL for a table of what is asked for by its place, and the values of its placeholders."""
    selects = (
        f"SELECT {place} AS place, :metric{place} AS metric, :quantity{place} AS quantity, {alpha} AS alpha"
        for place, (*_, alpha) in enumerate(asked)
    )
    names = {f"metric{place}": metric for place, (metric, *_) in enumerate(asked)}
    names |= {f"quantity{place}": quantity for place, (_, quantity, _) in enumerate(asked)}
    return " UNION ALL ".join(selects), names


def _of_run(run: Run) -> dict[str, Estimate]:
    """What is known of a run beside its summaries."""
    numbers = zip(OF_RUN, (run.value, run.slope, run.pool), strict=True)
    found = {key: Estimate(value, None, None, run.n) for key, value in numbers if value is not None}
    return found | ({"coefficient": Estimate(*run.coefficient, run.n)} if run.has_dose else {})


def _fill(rows: Sequence[TableRow], stored: Stored, known: Sequence[str]) -> None:
    """One seed: what is stored, its interval over prompts. Several: their mean, its interval over seeds."""
    cells: list[tuple[TableRow, str]] = []
    samples: list[list[float]] = []
    for row in rows:
        found = row.stored = [stored[run.attempt, run.sign] for run in row.reached]
        row.holdout = found[0]["holdout"].n if found and "holdout" in found[0] else None
        if len(found) == 1:
            row.estimates = found[0]
            continue
        for key in known:
            sample = [estimates[key].mean for estimates in found if key in estimates]
            if len(sample) == 1 or (sample and key in OF_RUN):
                row.estimates[key] = Estimate(fmean(sample), None, None, len(sample))
            elif sample:
                cells.append((row, key))
                samples.append(sample)
    for (row, key), sample, interval in zip(cells, samples, seed_intervals(samples), strict=True):
        row.estimates[key] = Estimate(*interval, len(sample))


def _find_headlines(rows: Sequence[TableRow], measures: Sequence[Measure]) -> None:
    """The first declared headline that any row has is that of all rows, whatever the parameters it was measured with."""
    headlines = [measure for measure in measures if measure.column.role == "headline"]
    there = {key for row in rows for key in row.estimates}
    chosen = next((measure.family for measure in headlines if measure.key(1.0) in there), None)
    same = [measure for measure in headlines if measure.family == chosen]
    of_metric = {(measure.metric, measure.column.quantity): measure for measure in measures}
    for row in rows:
        row.headline = next((measure for measure in same if measure.key(1.0) in row.estimates), None)
        if row.headline:
            row.later = of_metric.get((row.headline.metric, row.headline.column.later))
