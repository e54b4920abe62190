"""Which rollouts died at which fork: read from the store, one row per rollout, and put together over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isokl_bench.results.runs import Run
from isokl_bench.results.survival import Survival, kaplan_meier
from isokl_bench.results.table import Row
from isokl_registry import IsoklError

if TYPE_CHECKING:
    from isokl_db import Store

METRIC = "branch_pmass"

Key = tuple[int, int]  # attempt, prompt
Found = tuple[float, Key, float, bool]  # alpha, rollout, time, died


@dataclass(frozen=True)
class Rollouts:
    """The rollouts of one alpha over all seeds and prompts, by attempt and prompt: keys and what became of them."""

    keys: list[Key]
    survival: Survival


@dataclass(frozen=True)
class Series:
    """One row of Table 1 under one branch_pmass: its rollouts by alpha, ascending.

    end, every: the last fork point of the metric and the distance between two, in tokens."""

    row: Row
    metric: str
    end: int
    every: int
    alphas: dict[float, Rollouts]

    @property
    def marks(self) -> tuple[float, float]:
        """The middle and the end of the window."""
        return self.end / 2, float(self.end)


def read_series(store: Store, runs: Sequence[Run], threshold: float) -> list[Series]:
    """Each row of Table 1 for each branch_pmass that it has, in the order of the runs (see `finished_runs`).

    A rollout dies at the first fork whose pmass is under the threshold; else it is censored at its last scored fork.
    Raises IsoklError when none of the runs has branch_pmass."""
    series: list[Series] = []
    for _, found in groupby(runs, key=lambda run: (run.names, run.dimensions, run.other)):
        series += _of_row(store, Row(list(found)), threshold)
    if not series:
        raise IsoklError(
            f"none of the {len(runs)} finished runs selected in {store.name} has branch_pmass at its forks: measure it, "
            f"with `isokl run … --metric '{METRIC}[window=1024,every=32]' --metric 'kl_trajectory[window=1024]'`"
        )
    return series


def _of_row(store: Store, row: Row, threshold: float) -> list[Series]:
    spans: dict[str, tuple[int, int]] = {}
    rollouts: dict[str, list[Found]] = {}
    for run in row.reached:
        for metric, alpha, prompt, end, forks, last, death in _forks(store, run, threshold):
            known, _ = spans.get(metric, (-1, 0))
            if end > known:
                spans[metric] = end, end // max(1, forks - 1)
            time = float(last if death is None else death)
            found = alpha, (run.attempt, prompt), time, death is not None
            rollouts.setdefault(metric, []).append(found)
    return [Series(row, metric, *spans[metric], _by_alpha(rollouts[metric])) for metric in sorted(rollouts)]


def _forks(
    store: Store, run: Run, threshold: float
) -> list[tuple[str, float, int, int, int, int, int | None]]:
    """Of each rollout: metric, alpha, prompt, last fork, number of forks, last scored fork, fork of death."""
    sql = (
        "SELECT metric, alpha, prompt, MAX(position), COUNT(*), "
        "MAX(CASE WHEN value IS NOT NULL THEN position END), MIN(CASE WHEN value < :threshold THEN position END) "
        "FROM measurements WHERE attempt_id = :attempt AND sign = :sign AND quantity = 'pmass' "
        f"AND (metric = '{METRIC}' OR metric LIKE '{METRIC}[%') GROUP BY metric, alpha, prompt "
        "HAVING COUNT(value) > 0"
    )
    given = {"attempt": run.attempt, "sign": run.sign, "threshold": threshold}
    return store.query(sql, **given).rows


def _by_alpha(found: Sequence[Found]) -> dict[float, Rollouts]:
    alphas: dict[float, Rollouts] = {}
    for alpha, group in groupby(sorted(found), key=lambda rollout: rollout[0]):
        _, keys, times, deaths = zip(*group, strict=True)
        died: NDArray[np.bool_] = np.array(deaths, dtype=bool)
        alphas[alpha] = Rollouts(list(keys), kaplan_meier(np.array(times, dtype=float), died))
    return alphas
