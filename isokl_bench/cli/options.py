"""Options that several commands share, each spelled once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def db_option(command: Command) -> Command:
    """Add `--db`: the results database, passed on as `db` (a path or an SQLAlchemy URL)."""
    return click.option(
        "--db",
        envvar="ISOKL_DB",
        default="isokl.db",
        show_default=True,
        show_envvar=True,
        metavar="PATH",
        help="Results database: a SQLite file, or any SQLAlchemy URL.",
    )(command)


def output_option(command: Command) -> Command:
    """Add `--output`: the folder that a report is written into, passed on as a Path."""
    return click.option(
        "--output",
        "-o",
        type=click.Path(path_type=Path),
        default="report",
        show_default=True,
        metavar="DIR",
        help="Folder to write the files into; created where it is missing.",
    )(command)


def filter_options(*names: str) -> Callable[[Command], Command]:
    """Add options that select runs by what they are: each may be given several times, and is passed on as a tuple."""

    def add(command: Command) -> Command:
        for name in reversed(names):
            help = f"Only runs of this {name}; may be given several times."
            command = click.option(f"--{name}", multiple=True, metavar=name.upper(), help=help)(command)
        return command

    return add
