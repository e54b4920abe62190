"""The table of survival: in the terminal, as Markdown for people and as CSV for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from math import isnan

from rich.console import Console
from rich.table import Table
from rich.text import Text

from isokl_bench.report.tables.files import IDENTITY, identity
from isokl_bench.report.tables.formats import (
    csv_text,
    markdown_notes,
    markdown_table,
    markdown_text,
)
from isokl_bench.results.runs import DIMENSIONS, NAMES
from isokl_bench.results.survival import Survival
from isokl_bench.results.survival_rollouts import Series
from isokl_bench.results.table1 import Table1, describe
from isokl_bench.results.wording import NOTHING, number

LINES = 120  # of the terminal

_TITLES = ("α", "n", "died", "censored", "S, middle", "at risk", "S, end", "at risk", "half-life")
_MARKS = ("middle", "end")
_COUNTS = ("alpha", "n", "died", "censored")
_NUMBERS = [f"{name}_{mark}" for mark in _MARKS for name in ("t", "survival", "low", "high", "at_risk")]

_CENSORED_NOTE = "Censored: at its last fork, when a rollout ends by itself or the window ends. Pooled over seeds and holdout prompts."
_SHARE_NOTE = (
    "S: Kaplan–Meier share alive at the middle and the end of the window, with its 95 % log-log interval over rollouts "
    "(none where nobody or everybody has died). At risk: alive just before then, and observed."
)
_HALF_LIFE_NOTE = (
    "Half-life: the first fork with S ≤ 0.5, in tokens; > t: not reached while anybody was observed. "
    f"{NOTHING}: all that were alive had been censored before, so S is not known."
)


@dataclass
class SurvivalTable:
    """The table: one line per series and alpha."""

    series: Sequence[Series]
    threshold: float

    @cached_property
    def runs(self) -> Table1:
        """What Table 1 calls the rows."""
        return Table1([series.row for series in self.series])

    def dimensions(self, series: Series) -> list[str]:
        """What tells a series from others of its method, in words."""
        words = describe(self.runs.within_block(series.row.first))
        several = sum(other.row is series.row for other in self.series) > 1
        return [*([words] if words else []), *([series.metric] if several else [])]

    @property
    def notes(self) -> list[str]:
        """What a reader must know to read the numbers right."""
        alive = f"Alive: until the first fork with an answer mass under {self.threshold:g}."
        return [f"{alive} {_CENSORED_NOTE}", _SHARE_NOTE, _HALF_LIFE_NOTE]


def print_survival(table: SurvivalTable, console: Console) -> None:
    """Print the table, a heading for each model and behavior; series past the first 120 lines are counted only."""
    shown: list[Series] = []
    for series in table.series:
        if sum(len(s.alphas) for s in shown) < LINES:
            shown.append(series)
    for pair, block in groupby(shown, key=lambda series: series.row.first.pair):
        console.print(Text(" · ".join(pair), style="bold cyan"))
        console.print(_block(table, list(block)))
        console.print()
    if left := len(table.series) - len(shown):
        console.print(
            f"… and {left} more, in survival.md; the filters (see `isokl report --help`) narrow the selection."
        )
    for note in table.notes:
        console.print(Text(note, style="dim"))


def markdown(table: SurvivalTable) -> str:
    """A table for a README, and its notes."""
    named = [*NAMES, *table.runs.varying, "forks"]
    rows = (map(markdown_text, row) for series in table.series for row in _rows(table, series))
    lines = markdown_table([*named, *_TITLES], rows, named)
    return "\n".join([*lines, "", *markdown_notes(table.notes)]) + "\n"


def _rows(table: SurvivalTable, series: Series) -> Iterator[list[str]]:
    run = series.row.first
    named = [*run.names, *table.runs.dimensions(run).values(), _forks(series)]
    for alpha, rollouts in series.alphas.items():
        yield [*named, *_cells(alpha, series, rollouts.survival)]


def plain_csv(table: SurvivalTable) -> str:
    """Plain numbers; nothing where there is none. The columns up to `window` are those of table1.csv."""
    others = [name for name in table.runs.varying if name not in DIMENSIONS]
    named = [*NAMES, *IDENTITY, *others, "metric", "last_fork", "fork_every", "threshold"]
    return csv_text(
        [*named, *_COUNTS, *_NUMBERS, "half_life", "observed_to"],
        (
            [
                *identity(table.runs, series.row.first, others),
                *(series.metric, series.end, series.every, table.threshold),
                *_values(alpha, series, rollouts.survival),
            ]
            for series in table.series
            for alpha, rollouts in series.alphas.items()
        ),
    )


def _block(whole: SurvivalTable, block: Sequence[Series]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    table.add_column("method", overflow="fold", max_width=36)
    for title in _TITLES:
        table.add_column(
            title.replace(" ", "\n") if title == "at risk" else title, justify="right", no_wrap=True
        )
    for series in block:
        words = [series.row.first.method, *whole.dimensions(series), f"forks {_forks(series)}"]
        columns = zip(*(_cells(alpha, series, r.survival) for alpha, r in series.alphas.items()), strict=True)
        table.add_row(Text("\n".join(words)), *map("\n".join, columns))  # names may have brackets
    return table


def _forks(series: Series) -> str:
    return f"0 to {series.end}, every {series.every}" if series.end else "0"


def _cells(alpha: float, series: Series, survival: Survival) -> list[str]:
    half = survival.half_life
    return [
        f"{alpha:g}",
        str(survival.n),
        str(survival.deaths),
        str(survival.n - survival.deaths),
        *(
            text
            for mark in series.marks
            for text in (_share(*survival.at(mark)), str(survival.at_risk(mark)))
        ),
        f"> {survival.end:g}" if half is None else f"{half:g}",
    ]


def _share(share: float, low: float, high: float) -> str:
    if isnan(share):
        return NOTHING
    return number(share, 2) + ("" if isnan(low) else f" [{number(low, 2)}, {number(high, 2)}]")


def _values(alpha: float, series: Series, survival: Survival) -> Iterator[float | None]:
    yield from (alpha, survival.n, survival.deaths, survival.n - survival.deaths)
    for mark in series.marks:
        yield mark
        yield from (None if isnan(value) else value for value in survival.at(mark))
        yield survival.at_risk(mark)
    yield survival.half_life
    yield survival.end
