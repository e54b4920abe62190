"""Table 1 in the terminal: 120 columns wide, two lines to a row, one for each alpha."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from isokl_bench.report.tables.cells import Cell, Cells
from isokl_bench.results.table import ALPHAS, Row
from isokl_bench.results.table1 import Table1

MEASURED = ("log_ratio", "final_log_ratio", "target_logit", "nll_ratio", "pmass_change")
WIDTH = 120
ROWS = 60


def print_table(cells: Cells, console: Console) -> None:
    """Print Table 1, a heading for each model and behavior; rows past the 60th are counted only."""
    rows = cells.table.rows
    shown = rows[:ROWS]
    lines = zip(shown, cells.cells, strict=False)
    for (model, behavior), block in groupby(lines, key=lambda line: line[0].first.names[:2]):
        console.print(Text(f"{model} · {behavior}", style="bold cyan"))
        console.print(_block([_line(cells.table, row, texts) for row, texts in block]))
        console.print()
    if left := len(rows) - len(shown):
        console.print(f"… and {left} more rows, in table1.md; the filters (see --help) narrow the selection.")
    for note in cells.notes:
        console.print(Text(note, style="dim"))


def _block(lines: Iterable[Sequence[Text]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    table.add_column("method", overflow="fold", max_width=28)
    for title in ("coefficient", "outcome,\nslope", "holdout", "calib.,\nsampled"):
        table.add_column(title, overflow="fold", justify="left" if title.startswith("outcome") else "right")
    for title in (
        "α",
        "Δ log-ratio\n(nats)",
        "final\n(nats)",
        "Δ logit",
        "NLL\nratio",
        "Δ\npmass",
        "n,\nseeds",
    ):
        table.add_column(title, justify="right", no_wrap=True)
    for line in lines:
        table.add_row(*line)
    return table


def _line(table: Table1, row: Row, cells: Mapping[str, Cell]) -> list[Text]:
    alphas = ALPHAS if row.first.has_dose else ALPHAS[:1]
    slope = f"\nslope {cells['slope'].text}" if "slope" in row.estimates else ""
    return [
        Text("\n".join([cells["method"].text, *_dimensions(table, row)])),
        _over(cells["coefficient"]),
        Text.assemble((cells["outcome"].text, "" if row.reached else "red"), (slope, "dim")),
        _over(cells["holdout"]),
        Text(f"{cells['calibration'].text}\n{cells['holdout_sampled'].text}"),
        Text("\n".join(f"{alpha:g}" for alpha in alphas)),
        *(Text("\n").join(_beside(cells, key, alpha) for alpha in alphas) for key in MEASURED),
        Text(f"{cells['n'].text}\n{cells['seeds'].text}"),
    ]


def _dimensions(table: Table1, row: Row) -> list[str]:
    words = [
        value if name in ("protocol", "budget") else f"{name} {value}"
        for name, value in table.dimensions(row.first).items()
    ]
    return [", ".join(words)] if words else []


def _over(cell: Cell) -> Text:
    return Text.assemble(cell.text, "\n", (cell.interval, "dim"))


def _beside(cells: Mapping[str, Cell], key: str, alpha: float) -> Text:
    """The number, and the interval of the headline effect; for the others there is no room."""
    cell = cells[f"{key}_alpha{alpha:g}"]
    star = "*" if cell.marked else ""
    interval = (f" {cell.interval}", "dim") if cell.interval and key == MEASURED[0] else ""
    return Text.assemble((cell.text + star, "bold" if star else ""), interval)
