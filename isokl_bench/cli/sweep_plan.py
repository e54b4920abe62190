"""What a sweep has to do, in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from isokl_bench.sweep.plan import FAILED, STORED, Cell

SHOWN = 60  # cells that a plan lists


def print_plan(cells: Sequence[Cell], todo: Sequence[Cell], seconds: float | None, *, as_json: bool) -> None:
    """What a sweep would do, as a table or as JSON lines."""
    if as_json:
        for cell in cells:
            click.echo(json.dumps(named(cell) | {"state": cell.state, "error": cell.error}))
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


def named(cell: Cell) -> dict[str, Any]:
    """What tells a cell from others in JSON."""
    return {"cell": cell.label, "hash": cell.hash}
