"""The rankings in the terminal, as Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from isokl_bench.report.tables.files import markdown_text
from isokl_bench.results.control import CONDITIONS, CONTROL
from isokl_bench.results.ranking import Entry, Ranking
from isokl_bench.results.runs import DIMENSIONS, NAMES, NOTHING
from isokl_bench.results.table import Estimate
from isokl_bench.results.table1 import Table1
from isokl_bench.results.wording import amount, bracket, change, significant

ROWS = 40  # in the terminal
TITLES = (
    "rank",
    "method",
    "coefficient",
    "effect, α = 1 (nats)",
    "mean effect (nats)",
    "after the reply (nats)",
    "NLL ratio",
    "Δ pmass",
    "n",
    "seeds",
    "remark",
)
TEXTS = ("method", "remark")

_ORDER = (
    "Ranking: by the effect, which is the change of log p(target answer) − log p(other) at alpha 1, forced at the start of "
    "the reply, positive towards the side that was asked for. Ranks begin behind all methods that are told to have a larger "
    "effect and end before all that are told to have a smaller one: the 95 % interval of the paired difference over seeds "
    "excludes 0 or, with fewer than two common seeds, their own intervals do not overlap."
)
_AREA = (
    "mean effect: the effect averaged over the measured kl_p95 from 0 to the largest that all methods of the "
    "ranking reach (in its heading), by trapezoids over the alphas."
)
_MEASURED = (
    "after the reply: the same change at its end. NLL ratio and Δ pmass: at alpha 1. n: holdout prompts per seed; seeds: "
    "runs, as reached/all; intervals are over seeds where there are several, else over prompts."
)
_REMARKS = (
    "no effect: the interval includes 0; reversed: the answer moves away from the side that was asked for; "
    f"control: a random direction, whose side is chance; not above {CONTROL}: not told to be larger than the control's."
)
_APART = "Runs that differ in {what} are ranked apart: alpha 1 is another dose in each."
_UNREAD = "No mean effect where it would take the tokens of more runs than a report reads; select fewer."


def print_rankings(table: Table1, found: Sequence[Ranking], console: Console) -> None:
    """Print the first 40 lines of the rankings, and what must be known to read them."""
    shown = 0
    for ranking in found:
        entries = ranking.entries[: ROWS - shown]
        if not entries:
            break
        shown += len(entries)
        console.print(Text.assemble((f"Ranking: {ranking.title}", "bold cyan"), (_reach(ranking), "dim")))
        console.print(_table(entries))
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
        lines += [f"| {' | '.join(TITLES)} |"]
        lines += [f"| {' | '.join(':--' if title in TEXTS else '--:' for title in TITLES)} |"]
        for entry in ranking.entries:
            cells = (" ".join(filter(None, cell)) for cell in _cells(entry))
            lines.append(f"| {' | '.join(map(markdown_text, cells))} |")
        lines.append("")
    return "\n".join([*lines, *(f"{markdown_text(note)}  " for note in _notes(table, found))]) + "\n"


def ranking_csv(found: Sequence[Ranking]) -> str:
    """Plain numbers: the first and last place of each method, and every mean with the bounds of its interval."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = ("effect", "mean_effect", "final_effect", "nll_ratio_alpha1", "pmass_change_alpha1")
    bounds = [f"{name}{part}" for name in numbers for part in ("", "_low", "_high")]
    counts = ["mean_effect_up_to_nats", "prompts", "seeds", "seeds_reached", "remark"]
    writer.writerow([*NAMES[:2], *CONDITIONS, "rank_first", "rank_last", "method", *bounds, *counts])
    for ranking in found:
        for entry in ranking.entries:
            writer.writerow(_csv_row(ranking, entry))
    return text.getvalue()


def _csv_row(ranking: Ranking, entry: Entry) -> Iterator[object]:
    run, row = entry.row.first, entry.row
    conditions = dict(zip(DIMENSIONS, run.dimensions, strict=True))
    estimates = [
        entry.effect,
        entry.area,
        entry.final,
        *(row.estimates.get(key) for key in ("nll_ratio_alpha1", "pmass_change_alpha1")),
    ]
    yield from run.names[:2]
    yield from (run.sign if name == "sign" else conditions[name] for name in CONDITIONS)
    yield from entry.ranks or (None, None)
    yield entry.method
    for estimate in estimates:
        yield from (None, None, None) if estimate is None else estimate[:3]
    yield ranking.reach if entry.area else None
    yield from (entry.prompts, len(row.runs), len(row.reached), entry.remark)


def _table(entries: Sequence[Entry]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    for title in TITLES:
        text = title in TEXTS
        lines = title.replace(" (", "\n(")
        table.add_column(lines, justify="left" if text else "right", overflow="fold", no_wrap=not text)
    for entry in entries:
        cells = zip(TITLES, _cells(entry), strict=True)
        table.add_row(
            *(_beside(text, interval if title == TITLES[3] else "") for title, (text, interval) in cells)
        )
    return table


def _beside(text: str, interval: str) -> Text:
    """For other intervals than the effect's there is no room."""
    return Text.assemble(text, (f" {interval}" if interval else "", "dim"))


def _cells(entry: Entry) -> Iterator[tuple[str, str]]:
    """Texts, and the intervals that belong to them, by TITLES."""
    row = entry.row
    reached, total = len(row.reached), len(row.runs)
    yield _rank(entry), ""
    yield entry.method, ""
    coefficient = row.estimates.get("coefficient") if row.first.has_dose else None
    yield NOTHING if coefficient is None else significant(coefficient.mean), ""
    yield _estimate(entry.effect)
    yield _estimate(entry.area)
    yield _estimate(entry.final)
    yield _estimate(row.estimates.get("nll_ratio_alpha1"), signed=False)[0], ""
    yield _estimate(row.estimates.get("pmass_change_alpha1"))[0], ""
    yield NOTHING if entry.prompts is None else str(entry.prompts), ""
    yield str(total) if reached == total else f"{reached}/{total}", ""
    yield entry.remark, ""


def _rank(entry: Entry) -> str:
    if entry.ranks is None:
        return NOTHING
    first, last = entry.ranks
    return str(first) if first == last else f"{first}–{last}"


def _estimate(estimate: Estimate | None, *, signed: bool = True) -> tuple[str, str]:
    if estimate is None:
        return NOTHING, ""
    write = change if signed else amount
    return write(estimate.mean), bracket(estimate.low, estimate.high, write)


def _reach(ranking: Ranking) -> str:
    return f"  mean effect up to {significant(ranking.reach)} nat" if ranking.reach else ""


def _notes(table: Table1, found: Sequence[Ranking]) -> list[str]:
    apart = [name for name in CONDITIONS if name in table.varying]
    notes = [_ORDER, *([_AREA] if any(ranking.reach for ranking in found) else []), _MEASURED, _REMARKS]
    notes += table.without_twins[1]
    notes += [_APART.format(what=" or ".join(apart))] if apart else []
    return notes + ([_UNREAD] if any(ranking.unread for ranking in found) else [])
