"""The headline effect: how far a method moves the answer at alpha 1, towards the side that was asked for."""

from __future__ import annotations

from isokl_bench.results.declared import Measure
from isokl_bench.results.table import Estimate, TableRow


def effect(row: TableRow) -> Estimate | None:
    """The headline at alpha 1; a run of sign − asks for the other side, so its effects are turned. None where it is
    not measured."""
    return _towards(row, row.headline)


def later_effect(row: TableRow) -> Estimate | None:
    """The same after the reply."""
    return _towards(row, row.later)


def effects_by_seed(row: TableRow) -> dict[int | None, float]:
    """The headline of each seed that has one."""
    key = row.headline.key(1.0) if row.headline else ""
    both = zip(row.reached, row.stored, strict=True)
    return {run.seed: run.sign * stored[key].mean for run, stored in both if key in stored}


def _towards(row: TableRow, measure: Measure | None) -> Estimate | None:
    found = row.estimates.get(measure.key(1.0)) if measure else None
    return found if found is None or row.first.sign > 0 else found.turned()
