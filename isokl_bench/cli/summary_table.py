"""What a run measured at each alpha as a table for the terminal, and its headline effect in a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isokl_bench.results.table import Estimate
from isokl_bench.results.wording import amount, bracket, change, significant

if TYPE_CHECKING:
    from rich.table import Table

NO_VALUE = "—"
EFFECTS = {"log_ratio": "at the start of the reply", "final_log_ratio": "after it"}
FLIPS = {"flip_to_positive": "+", "flip_to_negative": "−"}

Summaries = Mapping[tuple[str, str, float], Mapping[str, Any]]  # by metric, quantity and alpha


@dataclass(frozen=True)
class Column:
    """A quantity that is a change from alpha 0, and the quantity that says what it changes from."""

    title: str
    metric: str
    quantity: str
    base: str = ""
    write: Callable[[float], str] = amount
    unit: str = ""  # of the base's number, where it is not that of the column


COLUMNS = (
    Column("log-ratio\n(nats)", "target_logit", "log_ratio", "answer_log_ratio"),
    Column("after reply\n(nats)", "target_logit", "final_log_ratio", "final_answer_log_ratio"),
    Column("flips", "target_logit", "answer_flip"),
    Column("NLL\nratio", "base_nll", "nll_ratio", "nll", significant, unit=" nats"),
    Column("pmass", "branch_pmass", "pmass_change", "pmass_mean"),
)
_NOTE = (
    "alpha 0: the model without steering; below: changes from it (NLL: the ratio to it). log-ratio: log p(target answer) − "
    "log p(other). flips: answers after the reply that changed sides, of those that could."
)


def summary_table(measured: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each alpha; the first has the absolute values of the base. measured: summaries of one sign."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    rows = {(s["metric"], s["quantity"], s["alpha"]): s for s in measured}
    columns = [
        column for column in COLUMNS if any(key[:2] == (column.metric, column.quantity) for key in rows)
    ]
    alphas = sorted({alpha for _, _, alpha in rows})
    n = _usual_n(rows, columns)
    caption = _NOTE + (f" In brackets: 95 % intervals over prompts, n = {n} where not said." if n else "")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=0, caption=caption, caption_justify="left")
    table.add_column("alpha", justify="right")
    for column in columns:
        table.add_column(column.title, justify="right")
    for alpha in alphas:
        table.add_row(f"{alpha:g}", *(_cell(rows, column, alpha, n) for column in columns))
    return table


def effect_sentence(measured: Sequence[Mapping[str, Any]], sign: int) -> str:
    """Whether the headline effect at alpha 1 is there, reversed or not told from 0; "" where it is not measured."""
    found = {s["quantity"]: s for s in measured if s["metric"] == "target_logit" and s["alpha"] == 1}
    parts = []
    for quantity, where in EFFECTS.items():
        summary = found.get(quantity)
        if summary is not None and summary["mean"] is not None:
            estimate = _estimate(summary)
            numbers = f"{change(estimate.mean)} {interval(estimate.low, estimate.high, change)}".rstrip()
            parts.append(f"[bold]{_verdict(estimate, sign)}[/] {where} ({numbers}, n = {estimate.n})")
    asked = "" if sign > 0 else ", asked to fall"
    return f"effect at alpha 1 (change of the log-ratio in nats{asked}): {'; '.join(parts)}" if parts else ""


def _verdict(estimate: Estimate, sign: int) -> str:
    if estimate.low is None and estimate.high is None:
        return "without an interval"
    if not estimate.excludes_zero:
        return "not told from 0"
    if estimate.mean * sign < 0:
        return "reversed"
    return "larger than 0" if sign > 0 else "smaller than 0"


def _cell(rows: Summaries, column: Column, alpha: float, n: int | None) -> str:
    if column.quantity == "answer_flip":
        return _flips(rows, alpha)
    quantity = column.quantity if alpha else column.base
    summary = rows.get((column.metric, quantity, alpha))
    if summary is None or summary["mean"] is None:
        return NO_VALUE
    estimate = _estimate(summary)
    unit, other = "" if alpha else column.unit, "" if estimate.n == n else f"\nn = {estimate.n}"
    is_signed = column.write is amount and (alpha or quantity.endswith("log_ratio"))
    text = (change if is_signed else column.write)(estimate.mean)
    return f"{text}{unit}\n[dim]{interval(estimate.low, estimate.high, column.write)}{other}[/]"


def _flips(rows: Summaries, alpha: float) -> str:
    """How many answers came to each side, of those that were on the other; at alpha 0 how many are on which."""
    found = [(side, rows.get(("target_logit", flip, alpha))) for flip, side in FLIPS.items()]
    sides = [(side, s) for side, s in found if s is not None and s["n"]]
    if not alpha:
        other = {"+": "−", "−": "+"}
        return "\n".join(f"{s['n']} on {other[side]}" for side, s in sides) or NO_VALUE
    return "\n".join(f"{round(s['mean'] * s['n'])}/{s['n']} → {side}" for side, s in sides) or NO_VALUE


def _estimate(summary: Mapping[str, Any]) -> Estimate:
    return Estimate(summary["mean"], summary["low"], summary["high"], summary["n"])


def interval(low: float | None, high: float | None, write: Callable[[float], str]) -> str:
    """An interval in brackets that rich does not take for markup."""
    return bracket(low, high, write).replace("[", "\\[")


def _usual_n(rows: Summaries, columns: Sequence[Column]) -> int | None:
    """The number of prompts that most of the intervals are over."""
    named = {(column.metric, column.quantity) for column in columns if column.quantity != "answer_flip"}
    counts = Counter(s["n"] for (metric, quantity, _), s in rows.items() if (metric, quantity) in named)
    return counts.most_common(1)[0][0] if counts else None
