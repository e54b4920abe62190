"""Laws of a metric: what the store and the report rely on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from isokl_registry.conformance.law import require
from isokl_registry.metric import Column, Curve, Measurement, Metric

if TYPE_CHECKING:
    from isokl_registry.conformance.session import FakeSession


def _measured(metric: Metric, session: FakeSession | None = None) -> tuple[list[Measurement], FakeSession]:
    from isokl_registry.conformance.session import FakeSession

    session = session or FakeSession()
    return list(metric.measure(session)), session


def shapes(metric: Metric) -> None:
    """It measures named quantities: [alpha, prompt], or [alpha, prompt, position] with the positions."""
    import numpy as np

    found, session = _measured(metric)
    require(found, "it measures nothing")
    names = [measurement.quantity for measurement in found]
    require(all(names), "a quantity has no name")
    require(len(set(names)) == len(names), f"the quantities {names} are not all different")
    expected = (len(session.alphas), session.prompts)
    for m in found:
        wanted = expected if m.positions is None else (*expected, len(m.positions))
        shape = np.shape(m.values)
        require(shape == wanted, f"{m.quantity} has the shape {shape}, not {wanted}")
        require(np.asarray(m.values).dtype.kind == "f", f"{m.quantity} is not an array of floats")


def unscored(metric: Metric) -> None:
    """What could not be scored is NaN with a reason, and never infinite."""
    import numpy as np

    for m in _measured(metric)[0]:
        values = np.asarray(m.values, dtype=float)
        require(not np.isinf(values).any(), f"{m.quantity} is infinite somewhere")
        require(not np.isnan(values).any() or m.reason.strip(), f"{m.quantity} has NaN and gives no reason")


def shares(metric: Metric) -> None:
    """A quantity that says that it is a share has no values but 0, 1 and NaN."""
    import numpy as np

    for m in _measured(metric)[0]:
        values = np.asarray(m.values, dtype=float)
        other = values[~np.isnan(values) & (values != 0) & (values != 1)]
        require(not m.share or not len(other), f"{m.quantity} is a share and has the value {other[:1]}")


def declared(metric: Metric) -> None:
    """Reports are told of quantities that it measures: columns of one number per prompt, curves of positions."""
    columns, curves = metric.columns, metric.curves
    require(_are(columns, Column), f"columns is {columns!r:.60}, not a tuple of Column")
    require(_are(curves, Curve), f"curves is {curves!r:.60}, not a tuple of Curve")
    named = [column.quantity for column in columns]
    require(len(set(named)) == len(named), f"the columns {named} are not all different")
    measured = {m.quantity: m.positions is not None for m in _measured(metric)[0]}
    for column in columns:
        bases = [column.base.quantity] if column.base else []
        for quantity in (column.quantity, *bases, *(count.quantity for count in column.counts)):
            require(measured.get(quantity) is False, f"{quantity} has a column, and no number per prompt")
        require(not column.later or column.later in named, f"{column.later} is later, and no column")
    for curve in curves:
        require(measured.get(curve.quantity), f"{curve.quantity} is a curve, and has no positions")
    headlines = [column.quantity for column in columns if column.role == "headline"]
    require(len(headlines) <= 1, f"{headlines} are headlines: methods are ranked by one")


def _are(found: object, kind: type) -> bool:
    return isinstance(found, tuple) and all(isinstance(one, kind) for one in found)


def tokens(metric: Metric) -> None:
    """It asks for no longer rollout than its `tokens` says."""
    _, session = _measured(metric)
    require(
        session.asked <= metric.tokens,
        f"it asks for {session.asked} tokens, and `tokens` says {metric.tokens}",
    )


def deterministic(metric: Metric) -> None:
    """The same session gives the same numbers again."""
    import numpy as np

    for one, other in zip(*(_measured(metric)[0] for _ in range(2)), strict=True):
        require(
            np.array_equal(one.values, other.values, equal_nan=True),
            f"{one.quantity} differs the second time",
        )


def small(metric: Metric) -> None:
    """One prompt is enough, and so is the unsteered model alone."""
    import numpy as np

    from isokl_registry.conformance.session import FakeSession

    def shape(alphas: Sequence[float], prompts: int) -> None:
        for m in _measured(metric, FakeSession(alphas, prompts))[0]:
            found = np.shape(m.values)[:2]
            require(
                found == (len(alphas), prompts), f"{m.quantity} of {prompts} prompt(s) has the shape {found}"
            )

    shape((0.0, 1.0), 1)
    shape((0.0,), 6)


def pure(metric: Metric) -> None:
    """It writes into nothing that it is given: all metrics share the rollouts."""
    from isokl_registry.conformance.session import FakeSession

    class Frozen(FakeSession):
        def _hand(self, array):  # type: ignore[no-untyped-def]
            self.handed.append(array.copy())
            self.handed.append(array)
            return array

    _, session = _measured(metric, Frozen())
    pairs = zip(session.handed[::2], session.handed[1::2], strict=True)
    require(all(copy.tobytes() == array.tobytes() for copy, array in pairs), "it writes into a rollout")
