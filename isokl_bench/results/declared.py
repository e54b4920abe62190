"""What stored names mean: each label is read apart here, and the plugin of that name says how its numbers are shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isokl_registry import Column, Curve, load_registry, parse_spec

if TYPE_CHECKING:
    from isokl_bench.results.runs import Run
    from isokl_db import Store

CHECKS = ("validation", "gap")  # of the budget: stored as metrics are, and shown with the calibration
EFFECTS = ("headline", "effect")  # roles of what a steering is meant to do

# The labels of one attempt. Each step goes on behind all rows of the last label: there may be 100 000 of them.
_LABELS = """
    WITH RECURSIVE m (label) AS (
        SELECT MIN(metric) FROM measurements WHERE attempt_id = :id UNION ALL
        SELECT (SELECT MIN(metric) FROM measurements WHERE attempt_id = :id AND metric > m.label)
        FROM m WHERE m.label IS NOT NULL
    ), s (label) AS (
        SELECT MIN(metric) FROM summaries WHERE attempt_id = :id UNION ALL
        SELECT (SELECT MIN(metric) FROM summaries WHERE attempt_id = :id AND metric > s.label)
        FROM s WHERE s.label IS NOT NULL
    )
    SELECT label FROM m WHERE label IS NOT NULL UNION SELECT label FROM s WHERE label IS NOT NULL
"""


@dataclass(frozen=True)
class Measure:
    """A quantity of one stored metric, and how its plugin wants it shown.

    metric: the label as stored. name: the quantity, with what tells it from others of its name: the parameters, where
    the metric is there under several, or the metric, where another has a quantity of that name. tag: the same, for a title.
    """

    metric: str
    column: Column
    name: str
    tag: str = ""

    @property
    def family(self) -> str:
        """The same for all parameters of the metric."""
        return f"{name_of(self.metric)}.{self.column.quantity}"

    @property
    def title(self) -> str:
        """For a table with room, with its unit."""
        return with_unit(f"{self.column.heading} {self.tag}".rstrip(), self.column.unit)

    def key(self, alpha: float) -> str:
        """What the cell at this alpha is called, in table1.csv too."""
        return f"{self.name}_alpha{alpha:g}"

    @property
    def base_key(self) -> str:
        """What the base at alpha 0 is called, "" where there is none."""
        before, _, behind = self.name.rpartition(self.column.quantity)
        return f"{before}base_{self.column.base.quantity}{behind}" if self.column.base else ""


@dataclass(frozen=True)
class StoredCurve:
    """A declared curve of one run. metric: the label as stored."""

    metric: str
    curve: Curve

    @property
    def family(self) -> str:
        """The same for all parameters of the metric."""
        return f"{name_of(self.metric)}.{self.curve.quantity}"


def name_of(label: str) -> str:
    """The name in `name[key=value,…]`."""
    return parse_spec(label)[0]


def is_control(method: str) -> bool:
    """Whether a method steers nowhere in particular, so that others are read against it."""
    return bool(getattr(_component("method", method), "control", False))


def unit_of(stat: str) -> str:
    """The unit of a stat, "" where its plugin is not installed."""
    return str(getattr(_component("stat", stat), "unit", ""))


def is_shift(stat: str) -> bool:
    """Whether a stat is a level of KL, which can be drawn among the KL of single tokens."""
    return bool(getattr(_component("stat", stat), "is_shift", False))


def with_unit(text: str, unit: str) -> str:
    """A title with its unit in the plural behind it."""
    return f"{text} ({plural(unit)})" if unit else text


def plural(unit: str) -> str:
    """Nats of nat; a sign such as % stays as it is."""
    return f"{unit}s" if unit.isalpha() else unit


def measures_of(stored: Iterable[tuple[str, str]]) -> list[Measure]:
    """The columns of these stored metrics and quantities, in the order in which plugins are registered.

    What a metric declares is there whole; of one that declares nothing, or whose plugin is no longer installed, there is
    a plain column for each quantity."""
    quantities: dict[str, list[str]] = {}
    for label, quantity in sorted(stored):
        if label not in CHECKS:
            quantities.setdefault(label, []).append(quantity)
    labels = sorted(quantities, key=_order)
    several = Counter(map(name_of, labels))
    owners: dict[str, str] = {}
    found = []
    for label in labels:
        name = name_of(label)
        parameters = label[len(name) :] if several[name] > 1 else ""
        declared = getattr(_component("metric", label), "columns", ())
        for column in declared or map(Column, quantities[label]):
            foreign = owners.setdefault(column.quantity, name) != name
            tag = f"({label})" if foreign else parameters
            stem = f"{name}.{column.quantity}" if foreign else column.quantity
            found.append(Measure(label, column, stem + parameters, tag))
    return found


def labels_of(store: Store, attempt: int) -> list[str]:
    """The labels of all metrics that are stored of an attempt, in the order in which plugins are registered."""
    return sorted((str(label) for (label,) in store.query(_LABELS, id=attempt).rows), key=_order)


def curves_of(store: Store, run: Run, *, furthest: bool = True) -> list[StoredCurve]:
    """The declared curves that a run may have; of one under several parameters only what reaches furthest, or all."""
    found: dict[str, list[StoredCurve]] = {}
    for label in labels_of(store, run.attempt):
        for curve in getattr(_component("metric", label), "curves", ()):
            stored = StoredCurve(label, curve)
            found.setdefault(stored.family, []).append(stored)
    if furthest:
        for family, same in found.items():
            if len(same) > 1:
                found[family] = [max(same, key=lambda one: _reach(store, run, one))]
    return [one for same in found.values() for one in same]


def shift_of(store: Store, run: Run) -> StoredCurve | None:
    """The KL along the text, None where a run has none."""
    return next((stored for stored in curves_of(store, run) if stored.curve.is_shift), None)


def metrics_with(wanted: Callable[[Curve], bool]) -> list[str]:
    """The installed metrics that declare such a curve: what one may measure to have it."""
    metrics = load_registry().entries["metric"].items()
    return [name for name, entry in metrics if any(map(wanted, entry.component.curves))]


def _reach(store: Store, run: Run, stored: StoredCurve) -> int:
    sql = (
        "SELECT MAX(position) FROM measurements WHERE attempt_id = :attempt AND sign = :sign AND metric = :metric "
        "AND quantity = :quantity"
    )
    given = {"metric": stored.metric, "quantity": stored.curve.quantity}
    ((position,),) = store.query(sql, attempt=run.attempt, sign=run.sign, **given).rows
    return -1 if position is None else int(position)


def _component(kind: str, label: str) -> Any:
    """The plugin of that name, None where it is not installed."""
    entry = load_registry().entries[kind].get(name_of(label))
    return entry and entry.component


def _order(label: str) -> tuple[int, str]:
    """Installed metrics first, as they are registered; one with default parameters before others of its name."""
    names = list(load_registry().entries["metric"])
    name = name_of(label)
    return (names.index(name) if name in names else len(names)), label
