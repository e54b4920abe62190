"""The rows of Table 1 together: what they differ in, which are weak, which are the same method twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from isokl_bench.results.control import not_above_control
from isokl_bench.results.runs import DIMENSIONS, NOTHING, Run, differing
from isokl_bench.results.table import Row
from isokl_bench.results.twins import without_twins
from isokl_bench.results.wording import short


@dataclass
class Table1:
    """Rows of Table 1. `varying` names the dimensions that have a column because rows differ in them."""

    rows: Sequence[Row]
    varying: list[str] = field(init=False)

    def __post_init__(self) -> None:
        runs = [row.first for row in self.rows]
        known = [{run.dimensions[i] for run in runs} for i in range(len(DIMENSIONS))]
        known[DIMENSIONS.index("layers")].discard(NOTHING)  # a prompt has none: that makes no column
        shown = [name for name, values in zip(DIMENSIONS, known, strict=True) if len(values) > 1]
        self.varying = [*shown, *differing(runs)]
        self._weak = {id(self.rows[place]) for place in not_above_control(self.rows)}

    def is_weak(self, row: Row) -> bool:
        """Whether the row's effect is not told to be larger than that of a random direction at the same budget."""
        return id(row) in self._weak

    @cached_property
    def without_twins(self) -> tuple[list[Row], list[str]]:
        """The rows of rankings and figures, and what is to be said of those that are left out."""
        return without_twins(self.rows)

    def dimensions(self, run: Run) -> dict[str, str]:
        """What a run is in each varying dimension."""
        known = dict(zip(DIMENSIONS, run.dimensions, strict=True))
        shown = {name: known[name] for name in self.varying if name in known}
        if len(shown) < len(self.varying):
            config = json.loads(run.other)
            shown |= {name: short(config.get(name)) for name in self.varying if name not in known}
        return shown
