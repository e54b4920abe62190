"""The whole report: Table 1 and Figure 1, read from the store, printed and written."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from isokl_bench.report.cells import Sheet
from isokl_bench.report.curves import read_curves
from isokl_bench.report.runs import finished_runs
from isokl_bench.report.table import table_rows
from isokl_bench.report.table_files import latex, markdown, plain_csv
from isokl_bench.report.table_terminal import print_table
from isokl_bench.report.write import make_folder, remove_file, write_file

if TYPE_CHECKING:
    from rich.console import Console

    from isokl_db import Store

FIGURES = ("figure1.png", "figure1.svg", "figure1.html")


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
    """Print Table 1, write it and Figure 1 into the folder, and return what was written.

    Raises IsoklError when no finished run is selected or a file cannot be written, StoreError when the store fails."""
    sheet = Sheet(table_rows(store, finished_runs(store, filters)))
    print_table(sheet, console)
    console.print()
    make_folder(folder)
    return _write_table(sheet, folder) + _write_figure(store, sheet, folder, console)


def _write_table(sheet: Sheet, folder: Path) -> list[Path]:
    files = {"table1.md": markdown(sheet), "table1.csv": plain_csv(sheet), "table1.tex": latex(sheet)}
    return [write_file(folder / name, content) for name, content in files.items()]


def _write_figure(store: Store, sheet: Sheet, folder: Path, console: Console) -> list[Path]:
    from isokl_bench.report.figure import figure, still
    from isokl_bench.report.figure_files import page, png, svg

    curves = read_curves(store, sheet)
    if curves is None:
        for name in FIGURES:
            remove_file(folder / name)
        console.print("No Figure 1: neither kl_trajectory nor branch_pmass is stored at alpha 1, 2 or 4.")
        return []
    if curves.left_out:
        console.print(curves.left_out)
    specification = figure(curves)
    drawing = svg(still(specification))
    contents: list[str | bytes] = [png(drawing), drawing, page(specification, "Figure 1")]
    return [write_file(folder / name, content) for name, content in zip(FIGURES, contents, strict=True)]
