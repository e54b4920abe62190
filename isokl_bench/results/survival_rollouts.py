"""Which rollouts died at which fork: read from the store, one row per rollout, and put together over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isokl_bench.results.declared import StoredCurve, curves_of, metrics_with
from isokl_bench.results.runs import Run
from isokl_bench.results.survival import Survival, kaplan_meier
from isokl_bench.results.table import TableRow
from isokl_registry import IsoklError

if TYPE_CHECKING:
    from isokl_db import Store

Key = tuple[int, int]  # attempt, prompt
Found = tuple[float, Key, float, bool]  # alpha, rollout, time, died


@dataclass(frozen=True)
class Rollouts:
    """The rollouts of one alpha over all seeds and prompts, by attempt and prompt: keys and what became of them."""

    keys: list[Key]
    survival: Survival


@dataclass(frozen=True)
class Series:
    """One row of Table 1 under one metric, as stored, that tells the living from the dead: its rollouts by alpha, ascending.

    end, every: the last fork point of the metric and the distance between two, in tokens."""

    row: TableRow
    metric: str
    end: int
    every: int
    alphas: dict[float, Rollouts]

    @property
    def marks(self) -> tuple[float, float]:
        """The middle and the end of the window."""
        return self.end / 2, float(self.end)


def read_series(store: Store, runs: Sequence[Run], threshold: float) -> list[Series]:
    """Each row of Table 1 for each metric it has with a curve that declares `alive`, in the order of the runs.

    A rollout dies at the first fork whose value is under the threshold; else it is censored at its last scored fork.
    Raises IsoklError when none of the runs has such a metric."""
    series: list[Series] = []
    for _, found in groupby(runs, key=lambda run: (run.names, run.dimensions, run.other)):
        series += _of_row(store, TableRow(list(found)), threshold)
    if not series:
        alive = metrics_with(lambda curve: curve.alive is not None)
        options = " ".join(f"--metric {name}" for name in (*alive, *metrics_with(lambda c: c.is_shift)))
        raise IsoklError(
            f"none of the {len(runs)} finished runs selected in {store.name} has {' or '.join(alive)} at its forks: measure "
            f"it, with `isokl run … {options}`; parameters make it longer: `isokl plugins show {alive[0]}`"
        )
    return series


def _of_row(store: Store, row: TableRow, threshold: float) -> list[Series]:
    spans: dict[str, tuple[int, int]] = {}
    rollouts: dict[str, list[Found]] = {}
    for run in row.reached:
        for stored in curves_of(store, run, furthest=False):
            if stored.curve.alive is not None:
                _add_forks(store, run, stored, threshold, spans, rollouts)
    return [Series(row, metric, *spans[metric], _by_alpha(rollouts[metric])) for metric in sorted(rollouts)]


def _add_forks(
    store: Store,
    run: Run,
    stored: StoredCurve,
    threshold: float,
    spans: dict[str, tuple[int, int]],
    rollouts: dict[str, list[Found]],
) -> None:
    """What became of each rollout of a run under one metric, and the last fork of it and the distance between two."""
    metric = stored.metric
    for alpha, prompt, end, forks, last, death in _forks(store, run, stored, threshold):
        known, _ = spans.get(metric, (-1, 0))
        if end > known:
            spans[metric] = end, end // max(1, forks - 1)
        time = float(last if death is None else death)
        found = alpha, (run.attempt, prompt), time, death is not None
        rollouts.setdefault(metric, []).append(found)


def _forks(
    store: Store, run: Run, stored: StoredCurve, threshold: float
) -> list[tuple[float, int, int, int, int, int | None]]:
    """Of each rollout: alpha, prompt, last fork, number of forks, last scored fork, fork of death."""
    sql = (
        "SELECT alpha, prompt, MAX(position), COUNT(*), "
        "MAX(CASE WHEN value IS NOT NULL THEN position END), MIN(CASE WHEN value < :threshold THEN position END) "
        "FROM measurements WHERE attempt_id = :attempt AND sign = :sign AND metric = :metric "
        "AND quantity = :quantity GROUP BY alpha, prompt HAVING COUNT(value) > 0"
    )
    given = {"attempt": run.attempt, "sign": run.sign, "threshold": threshold}
    return store.query(sql, metric=stored.metric, quantity=stored.curve.quantity, **given).rows


def _by_alpha(found: Sequence[Found]) -> dict[float, Rollouts]:
    alphas: dict[float, Rollouts] = {}
    for alpha, group in groupby(sorted(found), key=lambda rollout: rollout[0]):
        _, keys, times, deaths = zip(*group, strict=True)
        died: NDArray[np.bool_] = np.array(deaths, dtype=bool)
        alphas[alpha] = Rollouts(list(keys), kaplan_meier(np.array(times, dtype=float), died))
    return alphas
