"""Telling a person, a log file or a program what a run is doing."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from isokl_bench.pipeline.events import Event, Listener, silent


@contextmanager
def show(*, quiet: bool, as_json: bool) -> Iterator[Listener]:
    """A listener: a live bar on a terminal, plain lines elsewhere, JSON lines for programs, nothing when
    quiet."""
    if quiet:
        yield silent
    elif as_json:
        yield _json_line
    elif sys.stderr.isatty():
        with _live() as listen:
            yield listen
    else:
        yield _plain_line


def _json_line(event: Event) -> None:
    record = {"event": event.kind, "text": event.text, "progress": round(event.progress, 3), **event.data}
    click.echo(json.dumps(record))


def _plain_line(event: Event) -> None:
    if event.kind == "progress":
        return
    indent = "" if event.kind in ("phase", "stored") else "    "
    click.echo(f"{indent}{event.text}", err=True)


@contextmanager
def _live() -> Iterator[Listener]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False)
    columns = (
        SpinnerColumn(),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    # A run has few, long phases: its speed is that of the whole time, not of the last seconds.
    with Progress(*columns, console=console, transient=True, speed_estimate_period=3600) as progress:
        task = progress.add_task("", total=1.0)

        def listen(event: Event) -> None:
            progress.update(task, completed=event.progress)
            if event.kind == "progress":
                return
            if event.kind == "phase":
                progress.console.print(event.text, style="bold", markup=False)
            else:
                progress.console.print(
                    f"    {event.text}", style="dim" if event.kind == "round" else None, markup=False
                )

        yield listen
