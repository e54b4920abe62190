"""The rankings in the terminal, as Markdown, and as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from isokl_bench.report.tables.cells import about, estimated, heading
from isokl_bench.report.tables.formats import csv_text, markdown_notes, markdown_table, markdown_text
from isokl_bench.results.control import CONDITIONS
from isokl_bench.results.declared import Measure, with_unit
from isokl_bench.results.ranking import Entry, Ranking
from isokl_bench.results.runs import NAMES
from isokl_bench.results.table import Estimate
from isokl_bench.results.table1 import Table1
from isokl_bench.results.wording import NOTHING, bracket, significant, writer

ROWS = 40  # in the terminal
EFFECT = 3  # place of the effect among the titles
TEXTS = ("method", "remark")

_ORDER = (
    "Ranking: by the effect at alpha 1{what}, positive towards the side that was asked for. Ranks begin behind all "
    "methods that are clearly larger in effect and end before all that are clearly smaller: the 95 % interval "
    "of the paired difference over seeds excludes 0 or, with fewer than two common seeds, their own intervals do not overlap."
)
_AREA = (
    "mean effect: the effect averaged over the measured 95th percentile of the KL, from 0 to the largest that all methods of "
    "the ranking reach (in its heading), by trapezoids over the alphas."
)
_MEASURED = (
    "All at alpha 1. n: holdout prompts per seed; seeds: runs, as reached/all; intervals are over seeds where there are "
    "several, else over prompts."
)
_REMARKS = (
    "no effect: the interval includes 0; reversed: the answer moves away from the side that was asked for; control: steers "
    "nowhere in particular, so that its side is chance; not above {control}: not clearly larger than the control's."
)
_APART = "Runs that differ in {what} are ranked apart: alpha 1 is another dose in each."
_FEWER = (
    "n of m prompts: the effect is a mean over n prompts, or its dose was calibrated on n, where others of the ranking have m; "
    "it is known less well, and not of the same prompts."
)
_UNREAD = "No mean effect where it would take the tokens of more runs than a report reads; select fewer."


def titles(table: Table1) -> list[str]:
    """Of the columns of a ranking."""
    unit = table.headline.column.unit if table.headline else ""
    return [
        *("rank", "method", "coefficient"),
        with_unit("effect, α = 1", unit),
        with_unit("mean effect", unit),
        *([with_unit(later_title(table.later), table.later.column.unit)] if table.later else []),
        *(measure.title for measure in table.beside),
        *("n", "seeds", "remark"),
    ]


def later_title(later: Measure) -> str:
    """What the effect after the reply is called."""
    return later.column.when or later.column.heading


def about_beside(later: Measure | None, beside: Sequence[Measure]) -> str:
    """What metrics say of the quantities beside the headline."""
    of_later = f"{later_title(later)}: {later.column.note}." if later and later.column.note else ""
    return " ".join(filter(None, [of_later, about(beside)]))


def print_rankings(table: Table1, found: Sequence[Ranking], console: Console) -> None:
    """Print the first 40 lines of the rankings, and what must be known to read them."""
    shown = 0
    for ranking in found:
        entries = ranking.entries[: ROWS - shown]
        if not entries:
            break
        shown += len(entries)
        console.print(Text.assemble((f"Ranking: {ranking.title}", "bold cyan"), (_reach(ranking), "dim")))
        console.print(_table(table, entries))
        console.print()
    if left := sum(len(ranking.entries) for ranking in found) - shown:
        console.print(f"… and {left} more lines, in ranking.md.")
    for note in _notes(table, found):
        console.print(Text(note, style="dim"))


def ranking_markdown(table: Table1, found: Sequence[Ranking]) -> str:
    """A table for each ranking."""
    lines: list[str] = []
    for ranking in found:
        lines += [f"**{markdown_text(ranking.title)}**{markdown_text(_reach(ranking))}", ""]
        rows = (map(_markdown_cell, _cells(table, entry)) for entry in ranking.entries)
        lines += [*markdown_table(titles(table), rows, TEXTS), ""]
    return "\n".join([*lines, *markdown_notes(_notes(table, found))]) + "\n"


def ranking_csv(table: Table1, found: Sequence[Ranking]) -> str:
    """Plain numbers: the first and last place of each method, and every mean with the bounds of its interval."""
    numbers = ("effect", "mean_effect", "final_effect", *(measure.key(1.0) for measure in table.beside))
    bounds = [f"{name}{part}" for name in numbers for part in ("", "_low", "_high")]
    counts = ["mean_effect_up_to_nats", "prompts", "seeds", "seeds_reached", "remark"]
    return csv_text(
        [*NAMES[:2], *CONDITIONS, "rank_first", "rank_last", "method", *bounds, *counts],
        (_csv_row(table, ranking, entry) for ranking in found for entry in ranking.entries),
    )


def _csv_row(table: Table1, ranking: Ranking, entry: Entry) -> Iterator[object]:
    run, row = entry.row.first, entry.row
    conditions = run.dimensions._asdict()
    yield from run.pair
    yield from (run.sign if name == "sign" else conditions[name] for name in CONDITIONS)
    yield from entry.ranks or (None, None)
    yield entry.method
    beside = (row.estimates.get(measure.key(1.0)) for measure in table.beside)
    for estimate in (entry.effect, entry.area, entry.later, *beside):
        yield from (None, None, None) if estimate is None else estimate[:3]
    yield ranking.reach if entry.area else None
    yield from (entry.prompts, len(row.runs), len(row.reached), entry.remark)


def _table(table: Table1, entries: Sequence[Entry]) -> Table:
    grid = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    beside = {measure.title: heading(measure) for measure in table.beside}
    for title in titles(table):
        text = title in TEXTS
        lines = beside.get(title, Text(title.replace(" (", "\n(")))
        grid.add_column(lines, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    for entry in entries:
        cells = enumerate(_cells(table, entry))
        grid.add_row(*(_beside(text, interval if at == EFFECT else "") for at, (text, interval) in cells))
    return grid


def _beside(text: str, interval: str) -> Text:
    """For other intervals than the effect's there is no room."""
    return Text.assemble(text, (f" {interval}" if interval else "", "dim"))


def _markdown_cell(cell: tuple[str, str]) -> str:
    return markdown_text(" ".join(filter(None, cell)))


def _cells(table: Table1, entry: Entry) -> Iterator[tuple[str, str]]:
    """Texts, and the intervals that belong to them, by `titles`."""
    row = entry.row
    reached, total = len(row.reached), len(row.runs)
    yield _rank(entry), ""
    yield entry.method, ""
    coefficient = row.estimates.get("coefficient") if row.first.has_dose else None
    yield NOTHING if coefficient is None else significant(coefficient.mean), ""
    yield _estimate(entry.effect, table.headline)
    yield _estimate(entry.area, table.headline)
    if table.later:
        yield _estimate(entry.later, table.later)
    for measure in table.beside:
        yield estimated(row.estimates.get(measure.key(1.0)), measure), ""
    yield NOTHING if entry.prompts is None else str(entry.prompts), ""
    yield str(total) if reached == total else f"{reached}/{total}", ""
    yield entry.remark, ""


def _rank(entry: Entry) -> str:
    if entry.ranks is None:
        return NOTHING
    first, last = entry.ranks
    return str(first) if first == last else f"{first}–{last}"


def _estimate(estimate: Estimate | None, measure: Measure | None) -> tuple[str, str]:
    if estimate is None or measure is None:
        return NOTHING, ""
    write = writer(measure.column)
    return write(estimate.mean), bracket(estimate.low, estimate.high, write)


def _reach(ranking: Ranking) -> str:
    return f"  mean effect up to {significant(ranking.reach)} nat" if ranking.reach else ""


def _notes(table: Table1, found: Sequence[Ranking]) -> list[str]:
    """What must be known to read the rankings."""
    apart = {name for ranking in found for name in table.within_block(ranking.entries[0].row.first)}
    notes = [_order(table), *([_AREA] if any(ranking.reach for ranking in found) else [])]
    notes += [f"{about_beside(table.later, table.beside)} {_MEASURED}".lstrip()]
    notes += [_REMARKS.format(control=table.control), *table.without_twins[1]]
    if shown := [name for name in CONDITIONS if name in apart]:
        notes.append(_APART.format(what=" or ".join(shown)))
    if any(ranking.has_fewer(entry) for ranking in found for entry in ranking.entries):
        notes.append(_FEWER)
    return notes + ([_UNREAD] if any(ranking.unread for ranking in found) else [])


def _order(table: Table1) -> str:
    column = table.headline.column if table.headline else None
    if column is None:
        return _ORDER.format(what="")
    return _ORDER.format(what=f", which is the change of {column.note or column.heading}")
