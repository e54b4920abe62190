"""Methods that are another one by a longer way: beside it they are in Table 1, but in no ranking and no figure."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from isokl_bench.results.control import condition
from isokl_bench.results.table import TableRow
from isokl_registry import load_registry


def without_twins(rows: Sequence[TableRow]) -> tuple[list[TableRow], list[str]]:
    """The rows less those of a method that is the same as one that was run too, on the same layers under the same
    condition; and for each method that is left out a sentence that says so."""
    if not {row.first.method for row in rows} & _same_as().keys():
        return list(rows), []
    there = {_key(row, row.first.method) for row in rows}
    kept, left_out = [], set()
    for row in rows:
        same = _same_as().get(row.first.method)
        if same and _key(row, same) in there:
            left_out.add(
                f"{row.first.method} is {same} by another way and has no place of its own beside it."
            )
        else:
            kept.append(row)
    return kept, sorted(left_out)


def _key(row: TableRow, method: str) -> tuple[str, ...]:
    return (*condition(row), row.first.dimensions.layers, method)


@cache
def _same_as() -> dict[str, str]:
    """By their names, the methods that declare which other they are the same as; reading it imports no torch."""
    methods = load_registry().entries["method"].items()
    found = {name: getattr(entry.component, "same_as", "") for name, entry in methods}
    return {name: same for name, same in found.items() if same}
