"""The whole report: Table 1, the rankings, the leaderboard and the figures, read from the store, printed and
written."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from isokl_bench.report.tables.cells import Cells
from isokl_bench.report.tables.files import latex, markdown, plain_csv
from isokl_bench.report.tables.leaderboard import leaderboard_csv, leaderboard_markdown, print_leaderboards
from isokl_bench.report.tables.ranking import print_rankings, ranking_csv, ranking_markdown
from isokl_bench.report.tables.terminal import print_table
from isokl_bench.report.write import make_folder, remove_file, write_file
from isokl_bench.results.curves import Curves, read_curves
from isokl_bench.results.leaderboard import leaderboards
from isokl_bench.results.lines import choose_lines
from isokl_bench.results.ranking import rankings
from isokl_bench.results.responses import DoseResponse, Responses, dose_response
from isokl_bench.results.runs import finished_runs
from isokl_bench.results.table1 import Table1, read_table

if TYPE_CHECKING:
    from rich.console import Console

    from isokl_db import Store


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection: with 10 000 runs it would take a tenth of the time, and find nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@_uncollected()
def make_report(
    store: Store, folder: Path, filters: Mapping[str, Sequence[str]], console: Console
) -> list[Path]:
    """Print Table 1 and the rankings, write them and the figures into the folder, and return what was
    written.

    Raises IsoklError when no finished run is selected or a file cannot be written, StoreError when the store
    fails."""
    table = read_table(store, finished_runs(store, filters))
    cells = Cells(table)
    print_table(cells, console)
    console.print()
    make_folder(folder)
    responses, lines = Responses(store), choose_lines(table)
    return [
        *_write_table(cells, folder),
        *_write_rankings(table, responses, folder, console),
        *_write_figures(
            read_curves(store, lines), dose_response(responses, lines), lines.left_out, folder, console
        ),
    ]


def _write_table(cells: Cells, folder: Path) -> list[Path]:
    files = {"table1.md": markdown(cells), "table1.csv": plain_csv(cells.table), "table1.tex": latex(cells)}
    return [write_file(folder / name, content) for name, content in files.items()]


def _write_rankings(table: Table1, responses: Responses, folder: Path, console: Console) -> list[Path]:
    found = rankings(table, responses)
    boards = leaderboards(table, found)
    if found:
        print_rankings(table, found, console)
        console.print()
    print_leaderboards(boards, console)
    files = {
        "ranking.md": ranking_markdown(table, found) if found else None,
        "ranking.csv": ranking_csv(table, found) if found else None,
        "leaderboard.md": leaderboard_markdown(boards) if boards else None,
        "leaderboard.csv": leaderboard_csv(boards) if boards else None,
    }
    for name, content in files.items():
        if content is None:
            remove_file(folder / name)
    return [write_file(folder / name, content) for name, content in files.items() if content is not None]


def _write_figures(
    curves: Curves | None, response: DoseResponse | None, left_out: str, folder: Path, console: Console
) -> list[Path]:
    from isokl_bench.report.figures.figure1 import figure
    from isokl_bench.report.figures.figure2 import response_figure
    from isokl_bench.report.figures.files import write_figure

    if curves is None:
        console.print("No Figure 1: no KL or other curve along the text is stored at alpha 1, 2 or 4.")
    if response is None:
        console.print("No Figure 2: the KL along the text and an effect are not stored at the same alphas.")
    if left_out and (curves or response):
        console.print(left_out)
    first = write_figure(folder, "figure1", figure(curves) if curves else None, "Figure 1")
    return first + write_figure(
        folder, "figure2", response_figure(response) if response else None, "Figure 2"
    )
