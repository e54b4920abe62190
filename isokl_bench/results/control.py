"""Which effects the control has too: a random direction at the budget."""

from __future__ import annotations

from collections.abc import Sequence

from isokl_bench.results.effect import EFFECT, effect, effects_by_seed
from isokl_bench.results.runs import DIMENSIONS
from isokl_bench.results.seeds import seed_intervals
from isokl_bench.results.table import Estimate, Row

CONTROL = "random"
CONDITIONS = ("sign", "protocol", "budget", "window")  # dimensions in which methods can be compared
MARK = "°"
NOTE = f"{MARK}: an effect that is not told to be larger than that of {CONTROL}, the control, at the same budget."

_LAYERS = DIMENSIONS.index("layers")
_PLACES = [DIMENSIONS.index(name) for name in CONDITIONS]


def condition(row: Row) -> tuple[str, ...]:
    """What rows agree in that can be compared: model, behavior, and the conditions."""
    return (*row.first.names[:2], *(row.first.dimensions[place] for place in _PLACES))


def not_above_control(rows: Sequence[Row]) -> set[int]:
    """Places of the rows whose effect is not told to be larger than the control's under the same condition.

    With two or more seeds in common it is told where the 95 % interval of the paired difference is above 0; the effect
    counts in the direction that it has on average, the control's by its size alone: no side is its own. With fewer, the
    interval of the effect must lie beyond that of the control's. Where the control was not run, nothing is in the set."""
    controls: dict[tuple[str, ...], Row] = {}
    for row in rows:
        if row.first.names[2] == CONTROL and EFFECT in row.estimates:
            controls.setdefault(condition(row), row)  # for a prompt, which has no layers
            controls[*condition(row), row.first.dimensions[_LAYERS]] = row
    found, places, samples = set(), [], []
    for place, row in enumerate(rows):
        layers = row.first.dimensions[_LAYERS]
        control = controls.get((*condition(row), layers) if row.first.has_dose else condition(row))
        if control is None or row.first.names[2] == CONTROL or EFFECT not in row.estimates:
            continue
        differences = _by_seed(row, control)
        if len(differences) > 1:
            places.append(place)
            samples.append(differences)
        elif not _beyond(row.estimates[EFFECT], control.estimates[EFFECT]):
            found.add(place)
    intervals = zip(places, seed_intervals(samples), strict=True)
    return found | {place for place, (_, low, _) in intervals if not low > 0}


def _by_seed(row: Row, control: Row) -> list[float]:
    found = effect(row)
    side = 1.0 if found and found.mean > 0 else -1.0
    effects, sizes = effects_by_seed(row), effects_by_seed(control)
    return [side * effects[seed] - abs(sizes[seed]) for seed in effects if seed in sizes]


def _beyond(found: Estimate, control: Estimate) -> bool:
    """An end that is open may lie anywhere; of the effect only the one that is nearer to 0 counts."""
    least = (found if found.mean > 0 else found.turned()).low
    if least is None or control.low is None or control.high is None:
        return False
    return least > max(abs(control.low), abs(control.high))
