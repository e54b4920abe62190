"""What a run measured at each alpha as a table for the terminal, and its headline effect in a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from isokl_bench.results.declared import Measure, measures_of, plural, with_unit
from isokl_bench.results.table import Estimate
from isokl_bench.results.wording import NOTHING, bracket, number, writer
from isokl_registry import Column

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Summaries = Mapping[tuple[str, str, float], Mapping[str, Any]]  # by metric, quantity and alpha

_NOTE = "alpha 0: the model without steering; below: changes from it, or ratios to it."


def summary_table(measured: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each alpha; the first has the absolute values of the base. measured: summaries of one sign."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    rows = {(s["metric"], s["quantity"], s["alpha"]): s for s in measured}
    measures = _shown(rows)
    n = _usual_n(rows, measures)
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0, caption=_caption(measures, n))
    table.caption_justify = "left"
    table.add_column("alpha", justify="right")
    for measure in measures:
        table.add_column(_heading(measure), justify="right")
    for alpha in sorted({alpha for _, _, alpha in rows}):
        table.add_row(f"{alpha:g}", *(_cell(rows, measure, alpha, n) for measure in measures))
    return table


def effect_sentence(measured: Sequence[Mapping[str, Any]], sign: int) -> str:
    """Whether the headline effect at alpha 1 is there, reversed or not distinguishable from 0; "" where it is not measured."""
    found = {(s["metric"], s["quantity"]): s for s in measured if s["alpha"] == 1 and s["mean"] is not None}
    measures = {(m.metric, m.column.quantity): m for m in measures_of(found)}
    headlines = (key for key, m in measures.items() if m.column.role == "headline" and key in found)
    headline = measures.get(next(headlines, ("", "")))
    if headline is None:
        return ""
    both = ((headline.metric, quantity) for quantity in (headline.column.quantity, headline.column.later))
    parts = [_told(measures[key].column, found[key], sign) for key in both if key in found]
    unit = f" in {plural(headline.column.unit)}" if headline.column.unit else ""
    what = f"change of the {_title(headline)}{unit}{'' if sign > 0 else ', asked to fall'}"
    return f"effect at alpha 1 ({what}): {'; '.join(parts)}"


def interval(low: float | None, high: float | None, write: Callable[[float], str]) -> str:
    """An interval in brackets that rich does not take for markup."""
    return bracket(low, high, write).replace("[", "\\[")


def _shown(rows: Summaries) -> list[Measure]:
    """Those with a column here of which any number is stored."""
    stored = {(metric, quantity) for metric, quantity, _ in rows}
    return [
        measure
        for measure in measures_of(stored)
        if "summary" in measure.column.places and (measure.metric, measure.column.quantity) in stored
    ]


def _caption(measures: Sequence[Measure], n: int | None) -> Text:
    """What must be known to read the table; parameters in brackets are no markup in it."""
    from rich.text import Text

    about = dict.fromkeys(f"{_title(m)}: {m.column.note}." for m in measures if m.column.note)
    intervals = f"In brackets: 95 % intervals over prompts, n = {n} where not said." if n else ""
    return Text(" ".join([_NOTE, *about, intervals]).rstrip(), style="table.caption")


def _heading(measure: Measure) -> Text:
    """The title with its unit, and the parameters, on lines of their own; without a unit in two lines."""
    from rich.text import Text

    unit = measure.column.unit
    title = with_unit(_title(measure), unit).replace(" (", "\n(")
    lines = [title if unit else "\n".join(title.rsplit(" ", 1)), measure.tag]
    return Text("\n".join(filter(None, lines)))


def _title(measure: Measure) -> str:
    """Without a Δ, for alpha 0 is no change."""
    return (measure.column.short or measure.column.heading).removeprefix("Δ ")


def _told(column: Column, summary: Mapping[str, Any], sign: int) -> str:
    estimate, write = _estimate(summary), writer(column)
    numbers = f"{write(estimate.mean)} {interval(estimate.low, estimate.high, write)}".rstrip()
    where = column.when or column.heading
    return f"[bold]{_verdict(estimate, sign)}[/] {where} ({numbers}, n = {estimate.n})"


def _verdict(estimate: Estimate, sign: int) -> str:
    if estimate.low is None and estimate.high is None:
        return "without an interval"
    if not estimate.excludes_zero:
        return "not distinguishable from 0"
    if estimate.mean * sign < 0:
        return "reversed"
    return "larger than 0" if sign > 0 else "smaller than 0"


def _cell(rows: Summaries, measure: Measure, alpha: float, n: int | None) -> str:
    column = measure.column
    if column.counts:
        return _counts(rows, measure, alpha)
    shown = column if alpha else column.base or column
    summary = rows.get((measure.metric, shown.quantity, alpha))
    if summary is None or summary["mean"] is None:
        return NOTHING
    estimate = _estimate(summary)
    unit = f" {plural(shown.unit)}" if shown.unit != column.unit else ""
    other = "" if estimate.n == n else f"\nn = {estimate.n}"
    ends = interval(estimate.low, estimate.high, _unsigned(shown))
    return f"{writer(shown)(estimate.mean)}{unit}\n[dim]{ends}{other}[/]"


def _unsigned(column: Column) -> Callable[[float], str]:
    """For the ends of an interval, which have a sign only where they need one."""
    digits = column.digits
    return writer(column) if digits is None else lambda value: number(value, digits)


def _counts(rows: Summaries, measure: Measure, alpha: float) -> str:
    """How many of how many; at alpha 0 how many there are."""
    found = [(count, rows.get((measure.metric, count.quantity, alpha))) for count in measure.column.counts]
    lines = [
        f"{round(s['mean'] * s['n'])}/{s['n']} {count.after}" if alpha else f"{s['n']} {count.before}"
        for count, s in found
        if s is not None and s["n"]
    ]
    return "\n".join(lines) or NOTHING


def _estimate(summary: Mapping[str, Any]) -> Estimate:
    return Estimate(summary["mean"], summary["low"], summary["high"], summary["n"])


def _usual_n(rows: Summaries, measures: Sequence[Measure]) -> int | None:
    """The number of prompts that most of the intervals are over."""
    named = {(m.metric, m.column.quantity) for m in measures if not m.column.counts}
    counts = Counter(s["n"] for (metric, quantity, _), s in rows.items() if (metric, quantity) in named)
    return counts.most_common(1)[0][0] if counts else None
