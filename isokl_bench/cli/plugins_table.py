"""Rows in columns, for commands that list something: rich would cost more than all the rest of a listing."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from shutil import get_terminal_size
from textwrap import wrap
from typing import Any

import click

Style = Mapping[str, Any]  # arguments of click.style
NAME: Style = {"fg": "cyan"}
PLAIN: Style = {}
PALE: Style = {"dim": True}
NARROW = 20  # characters that a folded column keeps on the narrowest terminal


def print_table(rows: Sequence[Sequence[str]], styles: Sequence[Style], indent: str = "   ") -> None:
    """Rows in columns. On a terminal the widest column is folded to fit; elsewhere nothing is."""
    print_rows([(row, styles) for row in rows], indent)


def print_rows(rows: Sequence[tuple[Sequence[str], Sequence[Style]]], indent: str = "   ") -> None:
    """The same where every row has styles of its own."""
    widths = [max(1, *map(len, column)) for column in zip(*(row for row, _ in rows), strict=True)]
    if widths and sys.stdout.isatty():
        excess = len(indent) + sum(widths) + 2 * (len(widths) - 1) - get_terminal_size().columns
        widest = widths.index(max(widths))
        widths[widest] -= max(0, min(excess, widths[widest] - NARROW))
    for row, styles in rows:
        folded = [wrap(text, width) or [""] for text, width in zip(row, widths, strict=True)]
        for line in zip_longest(*folded, fillvalue=""):
            cells = zip(line, [*widths[:-1], 0], styles, strict=True)
            texts = (click.style(text.ljust(width), **style) for text, width, style in cells)
            click.echo(indent + "  ".join(texts))
