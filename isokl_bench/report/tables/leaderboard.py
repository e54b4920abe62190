"""The leaderboard in the terminal, as Markdown, and as CSV."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from isokl_bench.report.tables.formats import csv_text, markdown_notes, markdown_table, markdown_text
from isokl_bench.report.tables.ranking import about_beside, later_title
from isokl_bench.results.declared import Measure, with_unit
from isokl_bench.results.leaderboard import Board, Standing
from isokl_bench.results.wording import NOTHING, bracket, number, writer

ROWS = 40
NOTE = (
    "effect: {what}at alpha 1, positive towards the side that was asked for; mean over the pairs of model and behavior that "
    "were measured, with its 95 % interval over them. above {control}: pairs in which it is on that side and clearly larger "
    "than the control's, of those with a control; reversed: pairs in which its interval is on the other side; first: pairs in "
    "which its interval is on that side and it is the largest, or not clearly smaller. The columns up to reached are means "
    "over pairs, at alpha 1. reached: runs with a coefficient, of all; no dose: a prompt, whose KL is not the budget but what "
    "it is (Table 1 has it). seconds: of a run, median."
)


def titles(board: Board) -> list[str]:
    """Of the columns of a board."""
    unit = board.headline.column.unit if board.headline else ""
    return [
        "method",
        with_unit("effect, α = 1", unit),
        *(f"above {board.control}", "reversed", "first"),
        *([with_unit(later_title(board.later), board.later.column.unit)] if board.later else []),
        *(measure.title for measure in board.beside),
        *("reached", "seconds"),
    ]


def print_leaderboards(boards: Sequence[Board], console: Console) -> None:
    """A table of the first 40 for each, and what must be known to read it."""
    for board in boards:
        console.print(Text(heading(board), style="bold cyan"))
        console.print(_table(board))
        if len(board.standings) > ROWS:
            console.print(f"… and {len(board.standings) - ROWS} more, in leaderboard.md.")
        console.print()
    for note in _notes(boards):
        console.print(Text(note, style="dim"))
    if boards:
        console.print()


def leaderboard_markdown(boards: Sequence[Board]) -> str:
    """A table for each board."""
    lines: list[str] = []
    for board in boards:
        rows = (map(markdown_text, cells(board, standing)) for standing in board.standings)
        lines += [f"**{markdown_text(heading(board))}**", ""]
        lines += [*markdown_table(titles(board), rows, ("method",)), ""]
    return "\n".join([*lines, *markdown_notes(_notes(boards))]) + "\n"


def leaderboard_csv(boards: Sequence[Board]) -> str:
    """Plain numbers."""
    beside = list(dict.fromkeys(measure.name for board in boards for measure in board.beside))
    names = [
        "condition",
        "pairs",
        "method",
        "effect",
        "effect_low",
        "effect_high",
        "measured",
        "above_control",
    ]
    names += ["controlled", "reversed", "first", "final_effect", *beside, "fewer_prompts"]
    return csv_text(
        [*names, "runs_reached", "runs", "seconds"],
        (_csv_row(board, standing, beside) for board in boards for standing in board.standings),
    )


def _csv_row(board: Board, s: Standing, beside: Sequence[str]) -> list[object]:
    effect = s.effect[:3] if s.effect else (None, None, None)
    above = s.above if s.controlled else None
    row = [board.title, board.pairs, s.method, *effect, s.measured, above, s.controlled, s.turned, s.first]
    return [*row, s.later, *map(s.beside.get, beside), s.fewer, s.reached, s.runs, s.seconds]


def heading(board: Board) -> str:
    """What a board is about."""
    return f"Leaderboard over {board.pairs} pairs of model and behavior" + (
        f" ({board.title})" if board.title else ""
    )


def cells(board: Board, standing: Standing) -> list[str]:
    """Texts by `titles`."""
    s = standing
    return [
        s.method,
        _effect(board, s),
        f"{s.above}/{s.controlled}" if s.controlled else NOTHING,
        f"{s.turned}/{s.measured}" if s.measured and s.turned is not None else NOTHING,
        f"{s.first}/{s.measured}" if s.measured else NOTHING,
        *([_written(board.later, s.later)] if board.later else []),
        *(_written(measure, s.beside.get(measure.name)) for measure in board.beside),
        "no dose" if s.reached is None else f"{s.reached}/{s.runs}",
        NOTHING if s.seconds is None else number(s.seconds, 1),
    ]


def _table(board: Board) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for place, title in enumerate(titles(board)):
        words = title.replace(" (", "\n(") if place == 1 else title.replace(" ", "\n")
        justify: JustifyMethod = "right" if place else "left"
        table.add_column(Text(words), justify=justify, no_wrap=bool(place), overflow="fold")
    for standing in board.standings[:ROWS]:
        table.add_row(*map(Text, cells(board, standing)))
    return table


def _effect(board: Board, standing: Standing) -> str:
    found = standing.effect
    if found is None or board.headline is None:
        return NOTHING
    write = writer(board.headline.column)
    return f"{write(found.mean)} {bracket(found.low, found.high, write)}".rstrip()


def _written(measure: Measure, mean: float | None) -> str:
    return NOTHING if mean is None else writer(measure.column)(mean)


def _notes(boards: Sequence[Board]) -> list[str]:
    """What must be known to read the boards; their columns are the same."""
    if not boards:
        return []
    first = boards[0]
    column = first.headline.column if first.headline else None
    what = f"change of {column.note or column.heading}, " if column else ""
    notes = [NOTE.format(what=what, control=first.control)]
    notes += [about_beside(first.later, first.beside)]
    notes += [
        f"{s.method} has fewer prompts than others in {s.fewer} of {s.measured} pairs."
        for board in boards
        for s in board.standings
        if s.fewer
    ]
    return list(filter(None, notes))
