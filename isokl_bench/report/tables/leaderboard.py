"""The leaderboard in the terminal, as Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from isokl_bench.report.tables.files import markdown_text
from isokl_bench.results.control import CONTROL
from isokl_bench.results.leaderboard import Board, Standing
from isokl_bench.results.runs import NOTHING
from isokl_bench.results.wording import bracket, change, number

ROWS = 40
TITLES = (
    "method", "effect, α = 1 (nats)", f"above {CONTROL}", "reversed", "first", "after the reply (nats)", "NLL ratio",
    "Δ pmass", "reached", "seconds",
)  # fmt: skip
NOTE = (
    "effect: change of log p(target answer) − log p(other) at alpha 1, forced at the start of the reply, positive towards the "
    "side that was asked for; mean over the pairs of model and behavior that were measured, with its 95 % interval over "
    f"them. above {CONTROL}: pairs in which it is on that side and told to be larger than the control's, of those with a "
    "control; reversed: pairs in which its interval is on the other side; first: pairs in which its interval is on that "
    "side and it is the largest, or not told to be smaller. after the reply: the same change at its end. It, NLL ratio "
    "and Δ pmass are means over pairs. reached: runs with a coefficient, of all; no dose: a prompt, whose KL is not the "
    "budget but what it is (Table 1 has it). seconds: of a run, median."
)


def print_leaderboards(boards: Sequence[Board], console: Console) -> None:
    """A table of the first 40 for each, and what must be known to read it."""
    for board in boards:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
        for title in TITLES:
            words = title.replace(" (", "\n(") if title == TITLES[1] else title.replace(" ", "\n")
            table.add_column(
                words,
                justify="left" if title == "method" else "right",
                no_wrap=title != "method",
                overflow="fold",
            )
        for standing in board.standings[:ROWS]:
            table.add_row(*map(Text, cells(standing)))
        console.print(Text(heading(board), style="bold cyan"))
        console.print(table)
        if len(board.standings) > ROWS:
            console.print(f"… and {len(board.standings) - ROWS} more, in leaderboard.md.")
        console.print()
    if boards:
        console.print(Text(NOTE, style="dim"))
        console.print()


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
        "final_effect",
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
                s.final,
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
    interval = bracket(s.effect.low, s.effect.high, change) if s.effect else ""
    return [
        s.method,
        f"{change(s.effect.mean)} {interval}".rstrip() if s.effect else NOTHING,
        f"{s.above}/{s.controlled}" if s.controlled else NOTHING,
        f"{s.turned}/{s.measured}" if s.measured and s.turned is not None else NOTHING,
        f"{s.first}/{s.measured}" if s.measured else NOTHING,
        NOTHING if s.final is None else change(s.final),
        NOTHING if s.nll_ratio is None else number(s.nll_ratio, 2),
        NOTHING if s.pmass_change is None else change(s.pmass_change),
        "no dose" if s.reached is None else f"{s.reached}/{s.runs}",
        NOTHING if s.seconds is None else number(s.seconds, 1),
    ]
