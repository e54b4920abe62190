"""Table 1 in the terminal: 120 columns wide, two lines to a row, one for each alpha."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from isokl_bench.report.tables.cells import Cell, Cells, heading
from isokl_bench.results.declared import Measure
from isokl_bench.results.table import TABLE_ALPHAS, TableRow
from isokl_bench.results.table1 import Table1, describe

WIDTH = 120
ROWS = 60
MEASURES = 5  # that fit beside the calibration
MORE = 8  # and by themselves


def print_table(cells: Cells, console: Console) -> None:
    """Print Table 1, a heading for each model and behavior; rows past the 60th are counted only.

    What does not fit beside the calibration has a table of its own below it."""
    rows = cells.table.rows
    shown = rows[:ROWS]
    lines = zip(shown, cells.cells, strict=False)
    first, rest = cells.measures[:MEASURES], cells.measures[MEASURES:]
    for pair, group in groupby(lines, key=lambda line: line[0].first.pair):
        block = list(group)
        console.print(Text(" · ".join(pair), style="bold cyan"))
        console.print(_whole(cells.table, block, first))
        for start in range(0, len(rest), MORE):
            console.print(_more(cells.table, block, rest[start : start + MORE]))
        console.print()
    if left := len(rows) - len(shown):
        console.print(f"… and {left} more rows, in table1.md; the filters (see --help) narrow the selection.")
    for note in cells.notes:
        console.print(Text(note, style="dim"))


Line = tuple[TableRow, Mapping[str, Cell]]


def _whole(table: Table1, block: Iterable[Line], measures: Sequence[Measure]) -> Table:
    """What was calibrated, and beside it what was measured."""
    grid = _grid("coefficient", "outcome,\nslope", "holdout", "calib.,\nsampled")
    grid.add_column("α", justify="right", no_wrap=True)
    for measure in measures:
        grid.add_column(heading(measure, narrow=measure != table.headline), justify="right", no_wrap=True)
    grid.add_column("n,\nseeds", justify="right", no_wrap=True)
    for row, cells in block:
        slope = f"\nslope {cells['slope'].text}" if "slope" in row.estimates else ""
        grid.add_row(
            _named(table, row),
            _over(cells["coefficient"]),
            Text.assemble((cells["outcome"].text, "" if row.reached else "red"), (slope, "dim")),
            _over(cells["holdout"]),
            Text(f"{cells['calibration'].text}\n{cells['holdout_sampled'].text}"),
            *_measured(table, row, cells, measures),
            Text(f"{cells['n'].text}\n{cells['seeds'].text}"),
        )
    return grid


def _more(table: Table1, block: Iterable[Line], measures: Sequence[Measure]) -> Table:
    """More of what was measured."""
    grid = _grid()
    for title in (Text("α"), *map(heading, measures)):
        grid.add_column(title, justify="right", no_wrap=True)
    for row, cells in block:
        grid.add_row(_named(table, row), *_measured(table, row, cells, measures))
    return grid


def _grid(*titles: str) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    grid.add_column("method", overflow="fold", max_width=28)
    for title in titles:
        grid.add_column(title, overflow="fold", justify="left" if title.startswith("outcome") else "right")
    return grid


def _named(table: Table1, row: TableRow) -> Text:
    words = describe(table.within_block(row.first))
    return Text("\n".join(filter(None, [row.first.method, words])))


def _measured(
    table: Table1, row: TableRow, cells: Mapping[str, Cell], measures: Sequence[Measure]
) -> list[Text]:
    """The alphas, and a line for each in each cell. Only the headline has its interval: for others there is no room."""
    alphas = TABLE_ALPHAS if row.first.has_dose else TABLE_ALPHAS[:1]
    texts = (
        Text("\n").join(_beside(cells[measure.key(alpha)], measure == table.headline) for alpha in alphas)
        for measure in measures
    )
    return [Text("\n".join(f"{alpha:g}" for alpha in alphas)), *texts]


def _over(cell: Cell) -> Text:
    return Text.assemble(cell.text, "\n", (cell.interval, "dim"))


def _beside(cell: Cell, wide: bool) -> Text:
    star = "*" if cell.marked else ""
    interval = (f" {cell.interval}", "dim") if cell.interval and wide else ""
    return Text.assemble((cell.text + star, "bold" if star else ""), interval)
