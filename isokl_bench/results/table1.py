"""The rows of Table 1 together: what they differ in, which are weak, which are the same method twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from isokl_bench.results.control import not_above_control
from isokl_bench.results.declared import EFFECTS, Measure, is_control
from isokl_bench.results.runs import DIMENSIONS, Run, differing
from isokl_bench.results.table import TableRow, read_rows
from isokl_bench.results.twins import without_twins
from isokl_bench.results.wording import NOTHING, short

if TYPE_CHECKING:
    from isokl_db import Store


@dataclass
class Table1:
    """Rows of Table 1, and what was measured in any of them.

    `varying` names the dimensions that have a column because rows differ in them."""

    rows: Sequence[TableRow]
    measures: Sequence[Measure] = ()
    varying: list[str] = field(init=False)

    def __post_init__(self) -> None:
        runs = [row.first for row in self.rows]
        self.varying = _varying(runs)
        blocks: dict[tuple[str, str], list[Run]] = {}
        for run in runs:
            blocks.setdefault(run.pair, []).append(run)
        self._varying = {pair: _varying(found) for pair, found in blocks.items()}
        self._weak = {id(self.rows[place]) for place in not_above_control(self.rows)}

    def is_weak(self, row: TableRow) -> bool:
        """Whether the row's effect is not clearly larger than the control's at the same budget."""
        return id(row) in self._weak

    @cached_property
    def control(self) -> str:
        """The control that was run, by its name if there is only one."""
        names = {row.first.method for row in self.rows if is_control(row.first.method)}
        return names.pop() if len(names) == 1 else "control"

    @cached_property
    def headline(self) -> Measure | None:
        """The effect that methods are ranked by, None where none is measured."""
        return next((row.headline for row in self.rows if row.headline), None)

    @cached_property
    def later(self) -> Measure | None:
        """The same after the reply."""
        return next((row.later for row in self.rows if row.later), None)

    @cached_property
    def beside(self) -> list[Measure]:
        """What rankings and the leaderboard show beside the headline: the other effects, and the side effects."""
        ranked = {measure.family for measure in (self.headline, self.later) if measure}
        roles = (*EFFECTS, "side effect")
        return [m for m in self.measures if m.column.role in roles and m.family not in ranked]

    @cached_property
    def without_twins(self) -> tuple[list[TableRow], list[str]]:
        """The rows of rankings and figures, and what is to be said of those that are left out."""
        return without_twins(self.rows)

    def dimensions(self, run: Run) -> dict[str, str]:
        """What a run is in each varying dimension."""
        return _values(run, self.varying)

    def within_block(self, run: Run) -> dict[str, str]:
        """What a run is in each dimension in which the rows of its model and behavior differ."""
        return _values(run, self._varying[run.pair])

    def within_any_block(self, run: Run) -> dict[str, str]:
        """What a run is in each dimension in which the rows of any model and behavior differ."""
        names = {name for varying in self._varying.values() for name in varying}
        return _values(run, [name for name in self.varying if name in names])


def read_table(store: Store, runs: Sequence[Run]) -> Table1:
    """Table 1 of these runs, which come sorted as `finished_runs` sorts them."""
    return Table1(*read_rows(store, runs))


def describe(shown: Mapping[str, str]) -> str:
    """Dimensions and what a run is in them, as one text."""
    named = ("sign", "protocol", "budget")  # say themselves what they are
    return ", ".join(value if name in named else f"{name} {value}" for name, value in shown.items())


def _varying(runs: Sequence[Run]) -> list[str]:
    """The dimensions in which these runs differ."""
    known = [{run.dimensions[i] for run in runs} for i in range(len(DIMENSIONS))]
    known[DIMENSIONS.index("layers")].discard(NOTHING)  # a prompt has none: that makes no column
    return [name for name, values in zip(DIMENSIONS, known, strict=True) if len(values) > 1] + differing(runs)


def _values(run: Run, names: Sequence[str]) -> dict[str, str]:
    known = run.dimensions._asdict()
    shown = {name: known[name] for name in names if name in known}
    if len(shown) < len(names):
        config = json.loads(run.other)
        shown |= {name: short(config.get(name)) for name in names if name not in known}
    return shown
