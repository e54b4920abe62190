"""Table 1 as files: Markdown and LaTeX for people, CSV for programs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import groupby

from isokl_bench.report.tables.cells import Cell, Cells, TableColumn
from isokl_bench.report.tables.formats import (
    csv_text,
    markdown_notes,
    markdown_table,
    markdown_text,
)
from isokl_bench.results.runs import DIMENSIONS, NAMES, Run
from isokl_bench.results.table import OF_RUN, TableRow, keys
from isokl_bench.results.table1 import Table1

IDENTITY = ("sign", "protocol", "stat", "target", "layers", "window")  # of a run, behind its names
_TEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"−": "$-$", "—": "---", "α": r"$\alpha$", "Δ": r"$\Delta$"}
)
_PARTS = ("", "_low", "_high")  # of an estimate, in its order


def markdown(table: Cells) -> str:
    """A table for a README; marked cells are bold."""
    columns = table.columns
    titles = [column.title + (f", α = {column.alpha:g}" if column.alpha else "") for column in columns]
    rows = ([_markdown_cell(cells[column.key]) for column in columns] for cells in table.cells)
    lines = markdown_table(titles, rows, [column.title for column in columns if _is_text(column)])
    return "\n".join([*lines, "", *markdown_notes(table.notes)]) + "\n"


def latex(table: Cells) -> str:
    """A table* for the booktabs package; marked cells are bold."""
    columns = table.columns
    header = " & ".join(_tex(column.title) for column in columns)
    body = [" & ".join(_tex_cell(cells[column.key]) for column in columns) + r" \\" for cells in table.cells]
    return "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            r"\begin{table*}",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\begin{{tabular}}{{{''.join('l' if _is_text(column) else 'r' for column in columns)}}}",
            r"\toprule",
            *_tex_alphas(columns),
            header + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{_tex(' '.join(table.notes))}}}",
            r"\end{table*}",
            "",
        ]
    )


def plain_csv(table: Table1) -> str:
    """Plain numbers: every mean with the bounds of its interval, nothing where nothing is stored."""
    others = [name for name in table.varying if name not in DIMENSIONS]
    numbers = [
        (key, part) for key in keys(table.measures) for part in range(3) if key not in OF_RUN or not part
    ]
    titles = [key + _PARTS[part] for key, part in numbers]
    counts = ["n_calibration", "n_holdout", "seeds", "seeds_reached"]
    return csv_text(
        [*NAMES, *IDENTITY, *others, "outcome", *titles, *counts],
        ([*_identity(table, row, others), *_numbers(row, numbers), *_counts(row)] for row in table.rows),
    )


def identity(table: Table1, run: Run, others: Sequence[str]) -> list[object]:
    """What a run is, by NAMES, IDENTITY and `others`."""
    shown, dimensions = table.dimensions(run), run.dimensions
    of_run = run.sign, dimensions.protocol, run.stat, run.target, dimensions.layers, dimensions.window
    return [*run.names, *of_run, *map(shown.get, others)]


def _identity(table: Table1, row: TableRow, others: Sequence[str]) -> list[object]:
    result = " ".join(f"{name}:{count}" for name, count in row.outcomes)
    outcome = row.outcomes[0][0] if len(row.outcomes) == 1 else result
    return [*identity(table, row.first, others), outcome]


def _numbers(row: TableRow, numbers: Sequence[tuple[str, int]]) -> list[float | None]:
    found = row.estimates
    return [found[key][part] if key in found else None for key, part in numbers]


def _counts(row: TableRow) -> list[int | None]:
    return [row.first.n, row.holdout, len(row.runs), len(row.reached)]


def _is_text(column: TableColumn) -> bool:
    return column.key in (*NAMES, *DIMENSIONS, "outcome")


def _markdown_cell(cell: Cell) -> str:
    text = markdown_text(cell.text)
    return f"{f'**{text}**' if cell.marked else text} {markdown_text(cell.interval)}".rstrip()


@cache
def _tex(text: str) -> str:
    return text.translate(_TEX)


def _tex_cell(cell: Cell) -> str:
    text = _tex(cell.text)
    # the braces keep a bracket from being read as an option of the \\ before it
    interval = f" {{{_tex(cell.interval)}}}" if cell.interval else ""
    return (rf"\textbf{{{text}}}" if cell.marked else text) + interval


def _tex_alphas(columns: Sequence[TableColumn]) -> list[str]:
    """The line above the header that spans the columns of each alpha, and the rules under it."""
    cells, rules, start = [], [], 1
    for alpha, group in groupby(columns, key=lambda column: column.alpha):
        width = len(list(group))
        if alpha is None:
            cells += [""] * width
        else:
            cells.append(rf"\multicolumn{{{width}}}{{c}}{{$\alpha = {alpha:g}$}}")
            rules.append(rf"\cmidrule(lr){{{start}-{start + width - 1}}}")
        start += width
    return [" & ".join(cells) + r" \\", "".join(rules)]
