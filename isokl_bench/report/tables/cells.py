"""Table 1 as words: what people read in each cell, whatever the format it is printed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from rich.text import Text

from isokl_bench.results.control import MARK
from isokl_bench.results.declared import EFFECTS, Measure, unit_of, with_unit
from isokl_bench.results.runs import NAMES
from isokl_bench.results.table import HOLDOUT, TABLE_ALPHAS, Estimate, TableRow, in_table
from isokl_bench.results.table1 import Table1
from isokl_bench.results.wording import NOTHING, amount, bracket, number, significant, writer
from isokl_db import Outcome


class Cell(NamedTuple):
    """A text, the interval that belongs to it, and whether that interval makes it worth marking."""

    text: str
    interval: str = ""
    marked: bool = False


@dataclass(frozen=True)
class TableColumn:
    """A title and the key of its cells, with the alpha and the measure of what a metric declares."""

    title: str
    key: str
    alpha: float | None = None
    measure: Measure | None = None


OF_CALIBRATION = (
    TableColumn("coefficient", "coefficient"),
    TableColumn("outcome", "outcome"),
    TableColumn("slope", "slope"),
    TableColumn("calibration", "calibration"),
    TableColumn("holdout", "holdout"),
    TableColumn("sampled", "holdout_sampled"),
)
COUNTS = (TableColumn("n", "n"), TableColumn("seeds", "seeds"))

_STAT_NOTE = (
    "calibration, holdout, sampled: the budget's stat at alpha 1 on the calibration prompts, on the holdout prompts, and on "
    "those sampled at temperature 1. slope: d log stat / d log dose at the target."
)
_METRICS_NOTE = (
    "Changes (Δ) are against the model without steering (alpha 0), those of effects positive towards the behavior's positive "
    "side."
)
_MARKS_NOTE = (
    f"Marked (bold, or *): changes whose interval excludes 0. {NOTHING}: nothing is stored, which is not 0."
)
_NO_DOSE_NOTE = "no dose: steered by a prompt, which cannot be calibrated; its KL is as measured, and there is no alpha but 1."
_JUMP_NOTE = "jump: the stat steps over its target; the coefficient is the largest dose at or under it."
_CONTROL_NOTE = "{mark}: an effect that is not clearly larger than that of {control} at the same budget."


@dataclass
class Cells:
    """Table 1 ready to print."""

    table: Table1

    @cached_property
    def measures(self) -> list[Measure]:
        """What metrics declare for Table 1."""
        return in_table(self.table.measures)

    @cached_property
    def measured(self) -> list[TableColumn]:
        """Of each measure a column for each alpha."""
        return [
            TableColumn(measure.title, measure.key(alpha), alpha, measure)
            for alpha in TABLE_ALPHAS
            for measure in self.measures
        ]

    @cached_property
    def columns(self) -> list[TableColumn]:
        """Names, the varying dimensions, and what was measured."""
        named = (TableColumn(name, name) for name in (*NAMES, *self.table.varying))
        return [*named, *OF_CALIBRATION, *self.measured, *COUNTS]

    @cached_property
    def cells(self) -> list[dict[str, Cell]]:
        """For each row its cells by the keys of `columns`."""
        return [self._cells(row) for row in self.table.rows]

    def _cells(self, row: TableRow) -> dict[str, Cell]:
        named = dict(zip(NAMES, row.first.names, strict=True)) | self.table.dimensions(row.first)
        cells = {key: Cell(text) for key, text in named.items()}
        cells |= {column.key: _of_run(row, column.key) for column in (*OF_CALIBRATION, *COUNTS)}
        cells |= {column.key: _measured(row, column) for column in self.measured}
        if self.table.is_weak(row) and row.headline:
            key = row.headline.key(1.0)
            cells[key] = cells[key]._replace(text=cells[key].text + MARK)
        return cells

    @cached_property
    def notes(self) -> list[str]:
        """What a reader must know to read the numbers right."""
        runs = [run for row in self.table.rows for run in row.runs]
        notes = [f"Budget: {'; '.join(_budgets(self.table.rows))}. {_STAT_NOTE}"]
        notes += [_about_intervals(self.table.rows)]
        notes += [f"{_METRICS_NOTE} {about(self.measures)}".rstrip(), _MARKS_NOTE] if self.measures else []
        if any(run.outcome == Outcome.JUMP for run in runs):
            notes.append(_JUMP_NOTE)
        if any(map(self.table.is_weak, self.table.rows)):
            control = self.table.control
            named = "a control" if control == "control" else f"{control}, the control,"
            notes.append(_CONTROL_NOTE.format(mark=MARK, control=named))
        if not all(run.has_dose for run in runs):
            notes.append(_NO_DOSE_NOTE)
        return notes


def about(measures: Sequence[Measure]) -> str:
    """What metrics say of their quantities, each once."""
    notes = {}
    for measure in measures:
        column = measure.column
        words = [column.note] if column.note else []
        if column.larger_is_better is not None:
            words.append("larger is better" if column.larger_is_better else "smaller is better")
        if words:
            notes[column.heading.removeprefix("Δ ")] = "; ".join(words)
    return " ".join(f"{title}: {words}." for title, words in notes.items())


def outcome(row: TableRow) -> str:
    """The outcome in words; with several seeds, how many of them had it."""
    shown = [(found.words, count) for found, count in row.outcomes]
    if len(shown) == 1:
        return shown[0][0]
    return ", ".join(f"{words} {count}/{len(row.runs)}" for words, count in shown)


def _of_run(row: TableRow, key: str) -> Cell:
    if key == "outcome":
        return Cell(outcome(row))
    if key == "n":
        return Cell(_prompts(row))
    if key == "seeds":
        reached, total = len(row.reached), len(row.runs)
        return Cell(str(total) if reached in (0, total) else f"{reached}/{total}")
    estimate = row.estimates.get(key)
    if estimate is None:
        return Cell(NOTHING)
    if key == "slope":
        return Cell(number(estimate.mean, 1))
    write = significant if key == "coefficient" else amount
    bracketed = key in ("coefficient", HOLDOUT[0])
    return Cell(write(estimate.mean), bracket(estimate.low, estimate.high, write) if bracketed else "")


def _measured(row: TableRow, column: TableColumn) -> Cell:
    estimate = row.estimates.get(column.key)
    if estimate is None or column.measure is None:
        return Cell(NOTHING)
    declared = column.measure.column
    write = writer(declared)
    # Those of the others are in table1.csv.
    interval = bracket(estimate.low, estimate.high, write) if declared.role in EFFECTS else ""
    return Cell(write(estimate.mean), interval, declared.signed and estimate.excludes_zero)


def _prompts(row: TableRow) -> str:
    both = [str(n) for n in (row.first.n, row.holdout) if n is not None]
    return "/".join(dict.fromkeys(both))


def _budgets(rows: Sequence[TableRow]) -> list[str]:
    runs = [row.first for row in rows]
    return sorted({f"{run.dimensions.budget} {unit_of(run.stat)}".rstrip() for run in runs})


def _about_intervals(rows: Sequence[TableRow]) -> str:
    several = [len(row.runs) > 1 for row in rows]
    prompts, seeds = "95 % intervals over prompts", "95 % intervals of the mean over seeds"
    kinds = (
        prompts if not any(several) else seeds if all(several) else f"{prompts}; with several seeds, {seeds}"
    )
    n = "n: prompts per seed, as calibration/holdout where these differ"
    return f"In brackets: {kinds}; those not shown are in table1.csv. {n}; seeds: runs, as reached/all."


def heading(measure: Measure, *, narrow: bool = True) -> Text:
    """A title for the terminal, its unit on a line of its own; a narrow one is broken at its last space."""
    column = measure.column
    title = column.short or column.heading
    if narrow:
        title = "\n".join(title.rsplit(" ", 1))
    lines = "\n".join(filter(None, [title, measure.tag]))
    return Text(with_unit(lines, column.unit).replace(" (", "\n("))  # parameters in brackets are no markup


def estimated(estimate: Estimate | None, measure: Measure) -> str:
    """A mean as its column is written."""
    return NOTHING if estimate is None else writer(measure.column)(estimate.mean)
