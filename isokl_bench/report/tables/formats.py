"""The one writer of CSV, and the one of Markdown tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from functools import cache

_MARKDOWN = str.maketrans({character: f"\\{character}" for character in "|\\*<`"})


def csv_text(titles: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Plain values; nothing where there is None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(titles)
    writer.writerows(rows)
    return text.getvalue()


def markdown_table(
    titles: Sequence[str], rows: Iterable[Iterable[str]], texts: Collection[str] = ()
) -> list[str]:
    """The lines of a table whose cells are Markdown already; the columns in `texts` are to the left."""
    rule = (":--" if title in texts else "--:" for title in titles)
    return [f"| {' | '.join(line)} |" for line in (titles, rule, *rows)]


@cache
def markdown_text(text: str) -> str:
    """The text with whatever Markdown would take for itself escaped."""
    return text.translate(_MARKDOWN)


def markdown_notes(notes: Iterable[str]) -> list[str]:
    """Each on a line of its own."""
    return [f"{markdown_text(note)}  " for note in notes]
