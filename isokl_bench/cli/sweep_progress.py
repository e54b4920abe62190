"""Telling a person, a log file or a program how far a sweep has come."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from isokl_bench.cli.sweep_plan import duration, named, plan_line
from isokl_bench.sweep.plan import STORED, Cell
from isokl_bench.sweep.worker import CellResult, Progress
from isokl_db import Outcome, StoreError

if TYPE_CHECKING:
    from rich.progress import TaskID


class Screen:
    """Counts what has ended, and says it as plain lines on stderr; see the subclasses for other ways."""

    def __init__(self, cells: Sequence[Cell], todo: Sequence[Cell], jobs: int, seconds: float | None) -> None:
        self.cells, self.todo, self.jobs = cells, todo, jobs
        self.guess = seconds / len(todo) * min(jobs, len(todo)) if seconds and todo else None
        self.results: dict[int, CellResult] = {}
        self.begun = time.monotonic()

    @property
    def exit_code(self) -> int:
        """0 when every cell of the sweep is stored."""
        return 0 if self.failures() == [] else 1

    def failures(self) -> list[tuple[Cell, str]]:
        """The cells that are not stored, each with the reason."""
        found = []
        for cell in self.cells:
            result = self.results.get(cell.index)
            if result is None and cell.state != STORED:
                found.append((cell, cell.error or "not run"))
            elif result is not None and result.state not in ("done", "stored"):
                found.append((cell, f"{result.error}"))
        return found

    def left(self) -> float | None:
        """Seconds that the rest may take: as long for each cell as those that were run, else as past runs."""
        took = [result.seconds for result in self.results.values() if result.state == "done"]
        each = sum(took) / len(took) if took else self.guess
        count = len(self.todo) - len(self.results)
        return None if each is None else each * count / min(self.jobs, max(1, count))

    def tell(self, progress: Progress) -> None:
        """A worker has come further."""

    def ended(self, cell: Cell, result: CellResult) -> None:
        """A cell has ended."""
        self.results[cell.index] = result
        self.say(f"[{len(self.results)}/{len(self.todo)}] {self.line(cell, result)}")

    def say(self, line: str) -> None:
        click.echo(line, err=True)

    def line(self, cell: Cell, result: CellResult) -> str:
        """One line about a cell that has ended."""
        if result.error is not None:
            return f"{result.state}: {cell.label}: {result.error}"
        found = "; ".join(_found(row) for row in result.found)
        return f"{cell.label}: {found} ({duration(result.seconds)})"

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

    def ended(self, cell: Cell, result: CellResult) -> None:
        self.results[cell.index] = result
        found: dict[str, Any] = {"state": result.state, "error": result.error, "attempt": result.attempt}
        found |= {"seconds": round(result.seconds, 3), "calibrations": result.found}
        click.echo(json.dumps({"event": "cell"} | named(cell) | found))

    def close(self, db: str) -> None:
        failures = self.failures()
        reasons = [named(cell) | {"reason": reason} for cell, reason in failures]
        summary = {"event": "sweep", "cells": len(self.cells), "stored": len(self.cells) - len(failures)}
        click.echo(json.dumps(summary | {"not_stored": reasons}))


class Live(Screen):
    """A bar with the time left, and below it one for each worker."""

    def __init__(self, cells: Sequence[Cell], todo: Sequence[Cell], jobs: int, seconds: float | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        super().__init__(cells, todo, jobs, seconds)
        self.labels = {cell.index: cell.label for cell in cells}
        rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # a long text is cut, and the bars stay
        columns = (
            BarColumn(24, table_column=Column(width=24)),
            TaskProgressColumn(table_column=Column(width=4)),
            TextColumn("{task.description}", markup=False, table_column=rest),
        )
        console = Console(stderr=True, highlight=False)
        self.bars = Bars(*columns, console=console, refresh_per_second=4, transient=True, expand=True)
        self.whole = self.bars.add_task(self.words(), total=max(1, len(todo)))
        self.bar_of: dict[int, TaskID] = {}  # by worker

    def tell(self, progress: Progress) -> None:
        if progress.cell in self.results:  # a last message may come after the result
            return
        if progress.worker not in self.bar_of:
            self.bar_of[progress.worker] = self.bars.add_task("", total=1.0)
        bar, words = self.bar_of[progress.worker], f"{self.labels[progress.cell]}: {progress.text}"
        self.bars.update(bar, completed=progress.share, description=words, visible=True, cell=progress.cell)
        self.show_whole()

    def ended(self, cell: Cell, result: CellResult) -> None:
        for bar in self.bars.tasks:
            if bar.fields.get("cell") == cell.index:
                self.bars.update(bar.id, completed=0.0, visible=False)
        super().ended(cell, result)
        self.show_whole()

    def show_whole(self) -> None:
        """The first bar: what has ended and the shares of what is running."""
        running = sum(bar.completed for bar in self.bars.tasks if bar.id != self.whole)
        self.bars.update(self.whole, completed=len(self.results) + running, description=self.words())

    def words(self) -> str:
        """How many cells have ended, and how long the rest may take."""
        left = self.left()
        return f"{len(self.results)}/{len(self.todo)} cells" + (f", {duration(left)} left" if left else "")

    def say(self, line: str) -> None:
        self.bars.console.print(line, markup=False, soft_wrap=True)


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
    """The screen that fits: live on a terminal, plain lines elsewhere, JSON lines for programs, nothing when
    quiet."""
    kind = Quiet if quiet else JsonLines if as_json else Live if sys.stderr.isatty() else Screen
    screen = kind(cells, todo, jobs, seconds)
    if not as_json:
        screen.say(plan_line(cells, todo, seconds))
    try:
        with screen.bars if isinstance(screen, Live) else nullcontext():
            yield screen
    except StoreError:
        screen.close(db)
        raise
    screen.close(db)


def _found(row: dict[str, Any]) -> str:
    sign = "" if row["sign"] > 0 else "− "
    dose = (
        f"stat {row['value']:.2f}"
        if row["outcome"] == Outcome.NO_DOSE
        else f"coefficient {row['coefficient']:.4g}"
    )
    text = f"{sign}{Outcome(row['outcome']).words}, {dose}"
    return text + (f", holdout {row['holdout']:.2f}" if row["holdout"] is not None else "")
