"""Which effects the control has too: what steers nowhere in particular, at the same budget."""

from __future__ import annotations

from collections.abc import Sequence

from isokl_bench.results.comparison import Compared, told_larger
from isokl_bench.results.declared import is_control
from isokl_bench.results.effect import effect, effects_by_seed
from isokl_bench.results.table import Estimate, TableRow

CONDITIONS = ("sign", "protocol", "budget", "window")  # dimensions in which methods can be compared
MARK = "°"


def condition(row: TableRow) -> tuple[str, ...]:
    """What rows agree in that can be compared: model, behavior, and the conditions."""
    return (*row.first.pair, *(getattr(row.first.dimensions, name) for name in CONDITIONS))


def not_above_control(rows: Sequence[TableRow]) -> set[int]:
    """Places of the rows whose effect is not clearly larger than the control's under the same condition.

    The effect counts in the direction that it has on average, the control's by its size alone: no side is its own. Where
    the control was not run, nothing is in the set."""
    controls: dict[tuple[str, ...], TableRow] = {}
    for row in rows:
        if is_control(row.first.method) and row.headline:
            controls.setdefault(condition(row), row)  # for a prompt, which has no layers
            controls[*condition(row), row.first.dimensions.layers] = row
    places, pairs = [], []
    for place, row in enumerate(rows):
        layers = row.first.dimensions.layers
        control = controls.get((*condition(row), layers) if row.first.has_dose else condition(row))
        if control and row.headline and not is_control(row.first.method):
            places.append(place)
            pairs.append((_along_its_mean(row), _size(control)))
    return {place for place, told in zip(places, told_larger(pairs), strict=True) if not told}


def _along_its_mean(row: TableRow) -> Compared:
    """The effect in the direction that it has on average."""
    found = effect(row)
    side = 1.0 if found and found.mean > 0 else -1.0
    by_seed = {seed: side * value for seed, value in effects_by_seed(row).items()}
    return Compared(by_seed, found.turned() if found and side < 0 else found)


def _size(control: TableRow) -> Compared:
    """The control's effect without its sign; how large it may be is open where either end is."""
    found = effect(control)
    ends = [] if found is None else [end for end in found[1:3] if end is not None]
    high = max(map(abs, ends)) if len(ends) == 2 else None
    by_seed = {seed: abs(value) for seed, value in effects_by_seed(control).items()}
    return Compared(by_seed, found and Estimate(abs(found.mean), None, high, found.n))
