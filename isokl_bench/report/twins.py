"""Methods that are another one by a longer way: beside it they are in Table 1, and take no place in a ranking."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from isokl_bench.report.runs import DIMENSIONS
from isokl_bench.report.table import Row
from isokl_registry import load_registry

_LAYERS = DIMENSIONS.index("layers")


def without_twins(rows: Sequence[Row]) -> tuple[list[Row], dict[str, str]]:
    """The rows less those of a method that is the same as one that was run on the same layers too, and the name of the
    latter by that of each that is left out. rows: of one condition."""
    there = {(row.first.names[2], row.first.dimensions[_LAYERS]) for row in rows}
    kept, left_out = [], {}
    for row in rows:
        method = row.first.names[2]
        same = _same_as().get(method)
        if (same, row.first.dimensions[_LAYERS]) in there:
            left_out[method] = str(same)
        else:
            kept.append(row)
    return kept, left_out


@cache
def _same_as() -> dict[str, str]:
    """By their names, the methods that declare which other they are the same as; reading it imports no torch."""
    methods = load_registry().entries["method"].items()
    found = {name: getattr(entry.component, "same_as", "") for name, entry in methods}
    return {name: same for name, same in found.items() if same}
