"""The leaderboard in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from isokl_bench.report.leaderboard import NOTE, TITLES, Board, cells, heading

ROWS = 40


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
