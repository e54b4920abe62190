"""Table 1 as files: Markdown and LaTeX for people, CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from functools import cache
from itertools import groupby

from isokl_bench.report.tables.cells import Cell, Cells, Column
from isokl_bench.results.runs import DIMENSIONS, NAMES
from isokl_bench.results.table import KEYS, OF_RUN, Row
from isokl_bench.results.table1 import Table1

_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "|\\*<`"})
_TEX = str.maketrans(
    {character: f"\\{character}" for character in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"−": "$-$", "—": "---", "α": r"$\alpha$", "Δ": r"$\Delta$"}
)
_PARTS = ("", "_low", "_high")  # of an estimate, in its order
_NUMBERS = [(key, part) for key in KEYS for part in range(3) if key not in OF_RUN or not part]


def markdown(table: Cells) -> str:
    """A table for a README; marked cells are bold."""
    columns = table.columns
    header = [column.title + (f", α = {column.alpha:g}" if column.alpha else "") for column in columns]
    rule = [":--" if _is_text(column) else "--:" for column in columns]
    body = [[_markdown_cell(cells[column.key]) for column in columns] for cells in table.cells]
    lines = [f"| {' | '.join(line)} |" for line in (header, rule, *body)]
    notes = [f"{note}  " for note in table.notes]
    return "\n".join([*lines, "", *(markdown_text(note) for note in notes)]) + "\n"


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
    numbers = [key + _PARTS[part] for key, part in _NUMBERS]
    counts = ["n_calibration", "n_holdout", "seeds", "seeds_reached"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    dimensions = ["sign", "protocol", "stat", "target", "layers", "window"]
    writer.writerow([*NAMES, *dimensions, *others, "outcome", *numbers, *counts])
    for row in table.rows:
        writer.writerow([*_identity(table, row, others), *_numbers(row), *_counts(row)])
    return text.getvalue()


def _identity(table: Table1, row: Row, others: Sequence[str]) -> list[object]:
    run, shown = row.first, table.dimensions(row.first)
    _, protocol, _, layers, window = run.dimensions
    result = " ".join(f"{name}:{count}" for name, count in row.outcomes)
    outcome = row.outcomes[0][0] if len(row.outcomes) == 1 else result
    return [
        *run.names,
        run.sign,
        protocol,
        run.stat,
        run.target,
        layers,
        window,
        *map(shown.get, others),
        outcome,
    ]


def _numbers(row: Row) -> list[float | None]:
    found = row.estimates
    return [found[key][part] if key in found else None for key, part in _NUMBERS]


def _counts(row: Row) -> list[int | None]:
    return [row.first.n, row.holdout, len(row.runs), len(row.reached)]


def _is_text(column: Column) -> bool:
    return column.key in (*NAMES, *DIMENSIONS, "outcome")


@cache
def markdown_text(text: str) -> str:
    """The text with whatever Markdown would take for itself escaped."""
    return text.translate(_MARKDOWN)


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


def _tex_alphas(columns: Sequence[Column]) -> list[str]:
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
