"""Which rows of Table 1 become lines of a figure, and what tells one line from another."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from isokl_bench.results.runs import Run
from isokl_bench.results.table import TableRow
from isokl_bench.results.table1 import Table1, describe

METHODS = 7  # as many colours as can be told apart
VARIANTS = 6  # and dashes
BLOCKS = 6
LINES = 36
EXCERPT = 18  # lines of what has more: it says little until filters have narrowed it, so it may cost little
RUNS = 108  # whose tokens are read


@dataclass(frozen=True)
class Line:
    """A row of Table 1 in the figures, and those of its runs that are drawn.

    title: model and behavior, of its panels. keys: what its points carry: `method`, its colour, and `variant`, its dash,
    where rows of that method and block differ in anything else.
    """

    row: TableRow
    runs: list[Run]
    title: str
    keys: dict[str, str]


@dataclass(frozen=True)
class Lines:
    """The lines of the figures. `left_out` says what was selected but is not drawn, "" if nothing.

    methods, variants: in the order of the colours and dashes, which are the same in every figure."""

    drawn: list[Line]
    left_out: str

    @property
    def methods(self) -> list[str]:
        """Every method, in alphabetical order."""
        return methods_of(line.keys for line in self.drawn)

    @property
    def variants(self) -> list[str]:
        """Every variant, the shortest first; none where methods are there once only."""
        return variants_of(line.keys for line in self.drawn)

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
    lines = [Line(row, row.reached, " · ".join(row.first.pair), _keys(table, row)) for row in rows]
    drawn = _that_fit(lines)
    if len(drawn) > LINES:
        drawn = drawn[:EXCERPT]
    seeds = RUNS // (LINES if len(drawn) < len(lines) else max(1, len(drawn)))
    drawn = [replace(line, runs=line.runs[:seeds]) for line in drawn]
    return Lines(drawn, " ".join(filter(None, [_left_out(lines, drawn, seeds), *twins])))


def label(table: Table1, run: Run, shared: Collection[str]) -> str:
    """The method and, in brackets, what tells it from others of its block, but for what is `shared`."""
    words = describe({name: value for name, value in table.within_block(run).items() if name not in shared})
    return run.method + (f" ({words})" if words else "")


def methods_of(points: Iterable[Mapping[str, str]]) -> list[str]:
    """Every method there is among lines or points, in the order of the legend."""
    return sorted({point["method"] for point in points})


def variants_of(points: Iterable[Mapping[str, str]]) -> list[str]:
    """Every variant there is among lines or points, the shortest first."""
    return sorted(
        {point["variant"] for point in points if "variant" in point}, key=lambda text: (len(text), text)
    )


def _keys(table: Table1, row: TableRow) -> dict[str, str]:
    variant = describe(table.within_block(row.first))
    return {"method": row.first.method} | ({"variant": variant} if variant else {})


def _that_fit(lines: list[Line]) -> list[Line]:
    """The lines of the first blocks, methods and variants, as many as there are places, colours and dashes."""
    titles = list(dict.fromkeys(line.title for line in lines))[:BLOCKS]
    methods = methods_of(line.keys for line in lines)[:METHODS]
    variants = [*variants_of(line.keys for line in lines)[:VARIANTS], ""]
    return [
        line
        for line in lines
        if line.title in titles
        and line.keys["method"] in methods
        and line.keys.get("variant", "") in variants
    ]


def _left_out(lines: list[Line], drawn: list[Line], seeds: int) -> str:
    total, shown = sum(len(line.runs) for line in lines), sum(len(line.runs) for line in drawn)
    if shown == total:
        return ""
    which = f"the first {len(drawn)} of {len(lines)} rows of Table 1"
    if any(len(line.row.reached) > seeds for line in drawn):
        which += f", at most {seeds} seed{'s' if seeds > 1 else ''} each"
    return f"The figures draw {shown} of {total} runs: {which}; choose others with --model, --behavior, --method …"
