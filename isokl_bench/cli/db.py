"""`isokl db`: look into the results database without changing it, and merge others into it."""

import csv
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from isokl_bench.cli.options import db_option

if TYPE_CHECKING:
    from isokl_db import Merged, Store


_UNFOLDED = 1_000_000


@click.group(name="db")
def db() -> None:
    """Look into the results database, export a run from it, and merge other databases into it."""


@db.command()
@db_option
def path(db: str) -> None:
    """Print where the results database is."""
    with _reading(db) as store:
        click.echo(store.path or store.name)


@db.command()
@db_option
def tables(db: str) -> None:
    """List the tables and views with their rows and columns."""
    import sqlite_utils

    with _reading(db) as store:
        if store.engine.dialect.name != "sqlite":
            raise click.ClickException(f"{store.name} is not SQLite; list its tables with its own tools")
        with store.engine.connect() as connection:
            found = sqlite_utils.Database(connection.connection.driver_connection)
            ours = [table for table in found.tables if not table.name.startswith("sqlite_")]
            rows = [(t.name, "table", t.count, ", ".join(t.columns_dict)) for t in ours]
            rows += [(v.name, "view", None, ", ".join(v.columns_dict)) for v in found.views]
    _print_table(["name", "kind", "rows", "columns"], rows)


@db.command()
@click.argument("sql")
@click.option(
    "--format",
    "layout",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="How to print the rows.",
)
@db_option
def query(sql: str, layout: str, db: str) -> None:
    """Run one SELECT and print its rows; a query can never write.

    Start with the views: runs, results, result_summaries, result_measurements, result_traces.
    """
    with _reading(db) as store:
        found = store.query(sql)
    if layout == "json":
        dicts = found.as_dicts()
        click.echo(_json([{name: _readable(value) for name, value in row.items()} for row in dicts]))
    elif layout == "csv":
        rows = [map(_readable, row) for row in found.rows]
        csv.writer(sys.stdout, lineterminator="\n").writerows([found.columns, *rows])
    else:
        _print_table(found.columns, found.rows)


@db.command()
@click.argument("run")
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the record to FILE, and its steering beside it as FILE with the ending .safetensors.",
)
@db_option
def export(run: str, output: Path | None, db: str) -> None:
    """Write the whole record of RUN as JSON.

    RUN is an attempt id, or the start of a config hash (its latest successful attempt).
    """
    if output is not None and output.suffix == ".safetensors":
        raise click.BadParameter(
            "FILE is for the record, name it .json; the steering goes beside it", param_hint="--output"
        )
    with _reading(db) as store:
        attempt = store.attempt(store.find(run))
        record, steering = store.record(attempt.id), attempt.steering()
    if output is None:
        click.echo(_json(record))
        return
    vector = output.with_suffix(".safetensors")
    try:
        if steering is not None:
            vector.write_bytes(steering)
        output.write_text(_json(record) + "\n", encoding="utf-8")
    except OSError as error:
        message = f"cannot write {error.filename}: {error.strerror}; give another --output"
        raise click.ClickException(message) from error
    click.echo(f"wrote {output}" + (f" and {vector}" if steering is not None else ""))


@db.command()
@click.argument("others", metavar="OTHER...", nargs=-1, required=True)
@db_option
def merge(others: tuple[str, ...], db: str) -> None:
    """Add the runs of OTHER databases, such as those of other machines.

    Runs of the same configuration are kept side by side, under new ids; nothing already stored is changed. Runs
    that were merged before are skipped, so merging again adds only what is new (but not a metric that was added
    to such a run since), and so are runs that have not ended. The OTHER databases are only read.
    """
    from contextlib import ExitStack

    from isokl_db import Store
    from isokl_db import merge as merge_into

    with ExitStack() as stack:
        opened = [stack.enter_context(_reading(other)) for other in others]  # before --db is created
        store = stack.enter_context(Store(db))
        for other in opened:
            click.echo(_merged(merge_into(store, other), other.name))


def _merged(found: "Merged", name: str) -> str:
    """One line on what was merged; counts of 0 are left out, but for the configs."""
    notes = [f"{found.configs} {_plural('config', found.configs)} new"]
    if found.known:
        notes.append(f"{found.known} {_plural('attempt', found.known)} already here")
    if found.running:
        notes.append(f"{found.running} running left out")
    if found.older:
        notes.append(
            f"{found.older} {_plural('config', found.older)} now answered by an older attempt from there"
        )
    return f"merged {found.attempts} {_plural('attempt', found.attempts)} from {name} ({', '.join(notes)})"


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else noun + "s"


def _reading(db: str) -> "Store":
    from isokl_db import Store

    return Store(db, read_only=True)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)


def _readable(value: Any) -> Any:
    """A value that prints, in JSON too: what is binary is only named (`isokl db export` writes it out)."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as a table, folded to the terminal, or unfolded where the output is no terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if value is None else str(_readable(value))) for value in row))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else _UNFOLDED).print(table)
