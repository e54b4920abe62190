"""All rankings of one budget taken together: what each method does over models and behaviors."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

import numpy as np

from isokl_bench.report.cells import Sheet, number
from isokl_bench.report.control import CONDITIONS, CONTROL
from isokl_bench.report.lines import describe
from isokl_bench.report.ranking import Entry, Ranking
from isokl_bench.report.ranking_ties import told_apart
from isokl_bench.report.runs import NOTHING
from isokl_bench.report.table import Estimate
from isokl_bench.report.table_files import markdown_text
from isokl_bench.statistics import bootstrap_means

if TYPE_CHECKING:
    from isokl_db import Store

TITLES = (
    "method", "effect, α = 1", f"above {CONTROL}", "reversed", "first", "NLL ratio", "pmass change", "reached", "seconds",
)  # fmt: skip
NOTE = (
    "effect: change of the target answer's logit in the direction that was asked for, at alpha 1, mean over the pairs of "
    "model and behavior that were measured, with its 95 % bootstrap interval over them. "
    f"above {CONTROL}: pairs in which it is in that direction and told to be larger than the control's; reversed: pairs in "
    "which its interval is on the other side; first: pairs in which no method is told to be larger. NLL ratio, pmass "
    "change: means over pairs. reached: runs with a coefficient, of all; no dose: a prompt, whose KL is not the budget but "
    "what it is (Table 1 has it). seconds: of a run, median."
)


@dataclass
class Standing:
    """A method over all pairs of model and behavior that it was run on.

    effect: in logits. turned, first: numbers of pairs, of `measured`. above: of `controlled`, those of them in which the
    control has an effect. reached: runs with a coefficient, None for a prompt, which needs none."""

    method: str
    effect: Estimate | None
    measured: int
    above: int
    controlled: int
    turned: int
    first: int
    nll_ratio: float | None
    pmass_change: float | None
    reached: int | None
    runs: int
    seconds: float | None


@dataclass
class Board:
    """The standings under one condition, the largest effect first."""

    title: str
    pairs: int
    standings: list[Standing]


def leaderboards(store: Store, sheet: Sheet, found: Sequence[Ranking]) -> list[Board]:
    """One for each condition (sign, protocol, budget, window) under which two or more pairs are ranked."""
    seconds = {
        row["attempt_id"]: row["seconds"] for row in store.rows("SELECT attempt_id, seconds FROM results")
    }
    grouped: dict[str, list[Ranking]] = {}
    for ranking in found:
        title = describe(sheet, ranking.entries[0].row.first, CONDITIONS)
        grouped.setdefault(title, []).append(ranking)
    return [
        Board(title, len(same), _standings(sheet, same, seconds))
        for title, same in grouped.items()
        if len(same) > 1
    ]


def _standings(sheet: Sheet, same: Sequence[Ranking], seconds: dict[int, float | None]) -> list[Standing]:
    methods: dict[str, list[tuple[Ranking, Entry]]] = {}
    for ranking in same:
        for entry in ranking.entries:
            methods.setdefault(entry.method, []).append((ranking, entry))
    found = [_standing(sheet, method, entries, seconds) for method, entries in methods.items()]
    return sorted(found, key=lambda s: -s.effect.mean if s.effect else np.inf)


def _standing(
    sheet: Sheet, method: str, entries: Sequence[tuple[Ranking, Entry]], seconds: dict[int, float | None]
) -> Standing:
    measured = [(ranking, entry) for ranking, entry in entries if entry.effect]
    effects = [_asked(entry) for _, entry in measured]
    interval = bootstrap_means(np.array([effects]))[0] if effects else None
    controlled = [entry for ranking, entry in measured if any(map(_is_control, ranking.entries))]
    runs = [run for _, entry in entries for run in entry.row.runs]
    times = [t for run in runs if run.reached and (t := seconds.get(run.attempt)) is not None]
    return Standing(
        method=method,
        effect=Estimate(*_bounds(interval), len(effects)) if interval else None,
        measured=len(measured),
        above=sum(not sheet.is_weak(entry.row) and _asked(entry) > 0 for entry in controlled),
        controlled=0 if any(_is_control(entry) for _, entry in entries) else len(controlled),
        turned=sum("reversed" in entry.remark for _, entry in measured),
        first=sum(_is_first(ranking, entry) for ranking, entry in measured),
        nll_ratio=_mean(measured, "nll_ratio_alpha1"),
        pmass_change=_mean(measured, "pmass_change_alpha1"),
        reached=sum(run.reached for run in runs) if runs[0].has_dose else None,
        runs=len(runs),
        seconds=median(times) if times else None,
    )


def _is_control(entry: Entry) -> bool:
    return entry.row.first.names[2] == CONTROL and entry.effect is not None


def _is_first(ranking: Ranking, entry: Entry) -> bool:
    """Whether no entry above it is told to be larger."""
    above = [other for other in ranking.entries[: ranking.entries.index(entry)] if other.effect]
    return not any(told_apart([(other.row, entry.row) for other in above]))


def _bounds(interval: object) -> tuple[float, float | None, float | None]:
    mean, low, high, n = (getattr(interval, name) for name in ("mean", "low", "high", "n"))
    return (mean, low, high) if n > 1 else (mean, None, None)


def _asked(entry: Entry) -> float:
    """The effect, positive in the direction that was asked for."""
    assert entry.effect is not None
    return entry.effect.mean * entry.row.first.sign


def _mean(measured: Sequence[tuple[Ranking, Entry]], key: str) -> float | None:
    values = [entry.row.estimates[key].mean for _, entry in measured if key in entry.row.estimates]
    return fmean(values) if values else None


def leaderboard_markdown(boards: Sequence[Board]) -> str:
    """A table for each board."""
    lines: list[str] = []
    for board in boards:
        lines += [f"**{markdown_text(heading(board))}**", "", f"| {' | '.join(TITLES)} |"]
        lines += [f"| {' | '.join(':--' if title == 'method' else '--:' for title in TITLES)} |"]
        lines += [f"| {' | '.join(map(markdown_text, cells(s)))} |" for s in board.standings]
        lines.append("")
    return "\n".join([*lines, markdown_text(NOTE)]) + "\n"


def leaderboard_csv(boards: Sequence[Board]) -> str:
    """Plain numbers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = (
        "above_random",
        "controlled",
        "reversed",
        "first",
        "nll_ratio",
        "pmass_change",
        "runs_reached",
        "runs",
        "seconds",
    )
    writer.writerow(
        ["condition", "pairs", "method", "effect", "effect_low", "effect_high", "measured", *names]
    )
    for board in boards:
        for s in board.standings:
            effect = s.effect[:3] if s.effect else (None, None, None)
            counts = (
                s.measured,
                s.above if s.controlled else None,
                s.controlled,
                s.turned,
                s.first,
                s.nll_ratio,
                s.pmass_change,
                s.reached,
                s.runs,
                s.seconds,
            )
            writer.writerow([board.title, board.pairs, s.method, *effect, *counts])
    return text.getvalue()


def heading(board: Board) -> str:
    """What a board is about."""
    return f"Leaderboard over {board.pairs} pairs of model and behavior" + (
        f" ({board.title})" if board.title else ""
    )


def cells(standing: Standing) -> list[str]:
    """Texts by TITLES."""
    s = standing
    effect = NOTHING if s.effect is None else number(s.effect.mean, 2, signed=True)
    if s.effect is not None and s.effect.low is not None and s.effect.high is not None:
        effect += f" [{number(s.effect.low, 2, signed=True)}, {number(s.effect.high, 2, signed=True)}]"
    return [
        s.method,
        effect,
        f"{s.above}/{s.controlled}" if s.controlled else NOTHING,
        f"{s.turned}/{s.measured}" if s.measured else NOTHING,
        f"{s.first}/{s.measured}" if s.measured else NOTHING,
        NOTHING if s.nll_ratio is None else number(s.nll_ratio, 2),
        NOTHING if s.pmass_change is None else number(s.pmass_change, 2, signed=True),
        "no dose" if s.reached is None else f"{s.reached}/{s.runs}",
        NOTHING if s.seconds is None else number(s.seconds, 1),
    ]
