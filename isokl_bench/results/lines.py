"""Which rows of Table 1 become lines of a figure, and what tells one line from another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from isokl_bench.results.runs import Run
from isokl_bench.results.table import Row
from isokl_bench.results.table1 import Table1

METHODS = 7  # as many colours as can be told apart
WINDOWS = 4  # and dashes
BLOCKS = 6
LINES = 36
EXCERPT = 18  # lines of what has more: it says little until filters have narrowed it, so it may cost little
RUNS = 108  # whose tokens are read


@dataclass(frozen=True)
class Line:
    """A row of Table 1 in the figures, and those of its runs that are drawn.

    title: model and behavior, of its panels. keys: what its points carry: `series`, its colour, and `window`, its
    dash, where runs differ in it.
    """

    row: Row
    runs: list[Run]
    title: str
    keys: dict[str, str]


@dataclass(frozen=True)
class Lines:
    """The lines of the figures. `left_out` says what was selected but is not drawn, "" if nothing."""

    drawn: list[Line]
    left_out: str

    @property
    def blocks(self) -> dict[str, list[Line]]:
        """The lines by title."""
        found: dict[str, list[Line]] = {}
        for line in self.drawn:
            found.setdefault(line.title, []).append(line)
        return found


def choose_lines(table: Table1) -> Lines:
    """A line for each row of Table 1 that reached its budget, or for the first of them where they are many."""
    found, twins = table.without_twins
    rows = [row for row in found if row.reached]
    lines = [Line(row, row.reached, " · ".join(row.first.names[:2]), _keys(table, row)) for row in rows]
    drawn = _that_fit(lines)
    if len(drawn) > LINES:
        drawn = drawn[:EXCERPT]
    seeds = RUNS // (LINES if len(drawn) < len(lines) else max(1, len(drawn)))
    drawn = [replace(line, runs=line.runs[:seeds]) for line in drawn]
    return Lines(drawn, " ".join(filter(None, [_left_out(lines, drawn, seeds), *twins])))


def label(table: Table1, run: Run, shared: Collection[str]) -> str:
    """The method and, in brackets, what it is in the dimensions in which runs differ, but for the `shared` ones."""
    words = describe(table, run, [name for name in table.varying if name not in shared])
    return run.names[2] + (f" ({words})" if words else "")


def describe(table: Table1, run: Run, names: Collection[str]) -> str:
    """What a run is in these of the dimensions in which runs differ, as one text."""
    return ", ".join(
        value if name in ("sign", "protocol", "budget") else f"{name} {value}"
        for name, value in table.dimensions(run).items()
        if name in names
    )


def series_of(points: Iterable[Mapping[str, str]]) -> list[str]:
    """Every series there is among lines or points, in the order of the legend."""
    return sorted({point["series"] for point in points})


def windows_of(points: Iterable[Mapping[str, str]]) -> list[str]:
    """Every window there is among lines or points, the shortest first; none where runs do not differ in it."""
    return sorted(
        {point["window"] for point in points if "window" in point}, key=lambda text: (len(text), text)
    )


def _keys(table: Table1, row: Row) -> dict[str, str]:
    keys = {"series": label(table, row.first, shared=["window"])}
    return keys | ({"window": describe(table, row.first, ["window"])} if "window" in table.varying else {})


def _that_fit(lines: list[Line]) -> list[Line]:
    """The lines of the first blocks, series and windows, as many as there are places, colours and dashes."""
    titles = list(dict.fromkeys(line.title for line in lines))[:BLOCKS]
    series = series_of(line.keys for line in lines)[:METHODS]
    windows = [*windows_of(line.keys for line in lines)[:WINDOWS], ""]
    return [
        line
        for line in lines
        if line.title in titles and line.keys["series"] in series and line.keys.get("window", "") in windows
    ]


def _left_out(lines: list[Line], drawn: list[Line], seeds: int) -> str:
    total, shown = sum(len(line.runs) for line in lines), sum(len(line.runs) for line in drawn)
    if shown == total:
        return ""
    which = f"the first {len(drawn)} of {len(lines)} rows of Table 1"
    if any(len(line.row.reached) > seeds for line in drawn):
        which += f", at most {seeds} seed{'s' if seeds > 1 else ''} each"
    return f"The figures draw {shown} of {total} runs: {which}; choose others with --model, --behavior, --method …"
