"""Telling a person, a log file or a program how far a sweep has come."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import click

from isokl_bench.sweep.plan import FAILED, STORED, Cell
from isokl_bench.sweep.worker import Outcome, Progress
from isokl_db import StoreError

SHOWN = 60  # cells that a plan lists


def print_plan(cells: Sequence[Cell], todo: Sequence[Cell], seconds: float | None, *, as_json: bool) -> None:
    """What a sweep would do, as a table or as JSON lines."""
    if as_json:
        for cell in cells:
            click.echo(json.dumps(_named(cell) | {"state": cell.state, "error": cell.error}))
        return
    for cell in cells[:SHOWN]:
        click.echo(f"{cell.state:<8} {cell.label}" + (f": {cell.error}" if cell.error else ""))
    if len(cells) > SHOWN:
        click.echo(f"… and {len(cells) - SHOWN} more (--json lists all)")
    click.echo(plan_line(cells, todo, seconds))


def plan_line(cells: Sequence[Cell], todo: Sequence[Cell], seconds: float | None) -> str:
    """How many cells there are, how many are stored, and how long the rest may take."""
    states = Counter(cell.state for cell in cells)
    parts = [f"{len(cells)} cell{'s' if len(cells) > 1 else ''}: {states[STORED]} stored already"]
    if states[FAILED]:
        retried = any(cell.state == FAILED for cell in todo)
        parts.append(
            f"{states[FAILED]} failed before" + ("" if retried else " (--retry-failed runs them again)")
        )
    parts.append(f"{len(todo)} to run")
    if todo:
        guess = "no past run tells how long that takes" if seconds is None else f"about {duration(seconds)}"
        parts.append(guess)
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """As people say it: 40 s, 7 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class Screen:
    """Counts what has ended, and says it as plain lines on stderr; see the subclasses for other ways."""

    def __init__(self, cells: Sequence[Cell], todo: Sequence[Cell], jobs: int, seconds: float | None) -> None:
        self.cells, self.todo, self.jobs = cells, todo, jobs
        self.guess = seconds / len(todo) * min(jobs, len(todo)) if seconds and todo else None
        self.outcomes: dict[int, Outcome] = {}
        self.begun = time.monotonic()

    @property
    def exit_code(self) -> int:
        """0 when every cell of the sweep is stored."""
        return 0 if self.failures() == [] else 1

    def failures(self) -> list[tuple[Cell, str]]:
        """The cells that are not stored, each with the reason."""
        found = []
        for cell in self.cells:
            outcome = self.outcomes.get(cell.index)
            if outcome is None and cell.state != STORED:
                found.append((cell, cell.error or "not run"))
            elif outcome is not None and outcome.state not in ("done", "stored"):
                found.append((cell, f"{outcome.error}"))
        return found

    def left(self) -> float | None:
        """Seconds that the rest may take: as long for each cell as those that were run, else as past runs."""
        took = [outcome.seconds for outcome in self.outcomes.values() if outcome.state == "done"]
        each = sum(took) / len(took) if took else self.guess
        count = len(self.todo) - len(self.outcomes)
        return None if each is None else each * count / min(self.jobs, max(1, count))

    def tell(self, progress: Progress) -> None:
        """A worker has come further."""

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        """A cell has ended."""
        self.outcomes[cell.index] = outcome
        self.say(f"[{len(self.outcomes)}/{len(self.todo)}] {self.line(cell, outcome)}")

    def say(self, line: str) -> None:
        click.echo(line, err=True)

    def line(self, cell: Cell, outcome: Outcome) -> str:
        """One line about a cell that has ended."""
        if outcome.error is not None:
            return f"{outcome.state}: {cell.label}: {outcome.error}"
        found = "; ".join(_found(row) for row in outcome.found)
        return f"{cell.label}: {found} ({duration(outcome.seconds)})"

    def close(self, db: str) -> None:
        """The last words: how the sweep ended, and what to do next."""
        failures = self.failures()
        done = len(self.cells) - len(failures)
        self.say(
            f"{done} of {len(self.cells)} cells stored"
            + (f", {len(failures)} not" if failures else "")
            + f" ({duration(time.monotonic() - self.begun)})"
        )
        for cell, reason in failures:
            self.say(f"  {cell.label}: {reason}")
        if failures:
            self.say("the same command again runs what is missing; with --retry-failed also what failed")
        else:
            where = "" if db == "isokl.db" else f" --db {db}"
            self.say(f"next: isokl report{where} (tables, figures), isokl verify{where} (claims R1 to R6)")


class Quiet(Screen):
    """Says nothing but what went wrong."""

    def say(self, line: str) -> None:
        pass

    def close(self, db: str) -> None:
        for cell, reason in self.failures():
            click.echo(f"{cell.label}: {reason}", err=True)


class JsonLines(Screen):
    """One JSON object per cell that has ended, and a summary."""

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        self.outcomes[cell.index] = outcome
        found: dict[str, Any] = {"state": outcome.state, "error": outcome.error, "attempt": outcome.attempt}
        found |= {"seconds": round(outcome.seconds, 3), "calibrations": outcome.found}
        click.echo(json.dumps({"event": "cell"} | _named(cell) | found))

    def close(self, db: str) -> None:
        failures = self.failures()
        reasons = [_named(cell) | {"reason": reason} for cell, reason in failures]
        summary = {"event": "sweep", "cells": len(self.cells), "stored": len(self.cells) - len(failures)}
        click.echo(json.dumps(summary | {"not_stored": reasons}))


class Live(Screen):
    """A bar with the time left, and below it a line for each worker."""

    def __init__(self, cells: Sequence[Cell], todo: Sequence[Cell], jobs: int, seconds: float | None) -> None:
        from rich.console import Console
        from rich.live import Live as RichLive

        super().__init__(cells, todo, jobs, seconds)
        self.workers: dict[int, Progress] = {}
        self.labels = {cell.index: cell.label for cell in cells}
        self.console = Console(stderr=True, highlight=False)
        self.live = RichLive(
            get_renderable=self.draw, console=self.console, refresh_per_second=4, transient=True
        )

    def tell(self, progress: Progress) -> None:
        if progress.cell not in self.outcomes:  # a last message may come after the outcome
            self.workers[progress.worker] = progress

    def ended(self, cell: Cell, outcome: Outcome) -> None:
        self.workers = {pid: p for pid, p in list(self.workers.items()) if p.cell != cell.index}
        super().ended(cell, outcome)

    def say(self, line: str) -> None:
        self.console.print(line, markup=False, soft_wrap=True)

    def draw(self) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        running = list(self.workers.values())
        share = (len(self.outcomes) + sum(p.share for p in running)) / max(1, len(self.todo))
        left = self.left()
        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=min(share, 1.0), width=30)
        words = f"{len(self.outcomes)}/{len(self.todo)} cells" + (f", {duration(left)} left" if left else "")
        head.add_row(bar, words)
        lines = [
            Text(
                f"  {p.share:>4.0%}  {self.labels[p.cell]}: {p.text}",
                style="dim",
                overflow="ellipsis",
                no_wrap=True,
            )
            for p in running[: self.jobs]
        ]
        return Group(head, *lines)


@contextmanager
def show_sweep(
    cells: Sequence[Cell],
    todo: Sequence[Cell],
    jobs: int,
    seconds: float | None,
    *,
    db: str,
    quiet: bool,
    as_json: bool,
) -> Iterator[Screen]:
    """The screen that fits: live on a terminal, plain lines elsewhere, JSON lines for programs, nothing when quiet."""
    kind = Quiet if quiet else JsonLines if as_json else Live if sys.stderr.isatty() else Screen
    screen = kind(cells, todo, jobs, seconds)
    if not as_json:
        screen.say(plan_line(cells, todo, seconds))
    try:
        with screen.live if isinstance(screen, Live) else nullcontext():
            yield screen
    except StoreError:
        screen.close(db)
        raise
    screen.close(db)


def _found(row: dict[str, Any]) -> str:
    sign = "" if row["sign"] > 0 else "− "
    dose = (
        f"stat {row['value']:.2f}" if row["outcome"] == "no_dose" else f"coefficient {row['coefficient']:.4g}"
    )
    text = f"{sign}{row['outcome'].replace('_', ' ')}, {dose}"
    return text + (f", holdout {row['holdout']:.2f}" if row["holdout"] is not None else "")


def _named(cell: Cell) -> dict[str, Any]:
    return {"cell": cell.label, "hash": cell.hash}
