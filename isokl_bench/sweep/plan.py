"""What a sweep has to do: its cells, what the store knows of each, and how long the rest may take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from isokl_bench.api import lacks_something
from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.plan import Plan, Resolver
from isokl_bench.sweep.grid import AXES
from isokl_db import INTERRUPTED, Store, config_hash
from isokl_registry import IsoklError, PromptMethod, Registry

STORED, MISSING, FAILED = "stored", "missing", "failed"


@dataclass(frozen=True)
class Cell:
    """One run of a grid. label: what tells it from the other cells. state: stored, missing (never tried, cut short, or
    without some of its metrics) or failed, with its error."""

    index: int
    config: RunConfig
    plan: Plan
    hash: str
    label: str
    state: str = MISSING
    error: str | None = None


def plan_cells(configs: Sequence[RunConfig], store: Store | None, registry: Registry) -> list[Cell]:
    """Resolve every cell and look it up.

    Args:
        configs: the runs of a grid.
        store: what was run before, None where there is no store yet.
        registry: where names are looked up.

    Raises:
        IsoklError: at the first cell that cannot be run at all: a wrong name is better found before than after hours
            of work.
    """
    resolver, latest = Resolver(registry), {} if store is None else _latest(store)
    cells: dict[str, Cell] = {}
    for index, (config, label) in enumerate(zip(configs, _labels(configs), strict=True)):
        plan = resolver.resolve(config)
        hash = config_hash(plan.identity)
        if same := cells.get(hash):
            if isinstance(plan.method, PromptMethod):  # which has no layers: one cell for all of them
                continue
            raise IsoklError(
                f"cells {same.label!r} and {label!r} are the same run, written differently: keep one"
            )
        state, error = _state(plan, hash, store, latest.get(hash))
        cells[hash] = Cell(index, config, plan, hash, label, state, error)
    return list(cells.values())


def to_run(cells: Sequence[Cell], retry_failed: bool) -> list[Cell]:
    """The cells that are missing, with retry_failed also those that failed."""
    return [cell for cell in cells if cell.state == MISSING or (retry_failed and cell.state == FAILED)]


def estimate(cells: Sequence[Cell], store: Store | None, jobs: int) -> float | None:
    """Seconds that these cells may take on `jobs` workers, None when nothing was ever run.

    They are told by past runs: of the same model and window if there are any, else of the same model, else of any."""
    past = {} if store is None else _past(store)
    total = 0.0
    for cell in cells:
        seconds = next((past[like] for like in _likes(cell.plan.identity) if like in past), None)
        if seconds is None:
            return None
        total += seconds
    return total / max(1, min(jobs, len(cells)))


def _likes(run: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """What a run's time is told by, the best first."""
    return [(run["model"], run["window"]), (run["model"],), ()]


def _past(store: Store) -> dict[tuple[Any, ...], float]:
    """Mean seconds of past runs, by everything that a time may be told by."""
    seconds = defaultdict(list)
    for row in store.rows(
        "SELECT model, \"window\" AS window, seconds FROM runs WHERE state = 'done' AND seconds IS NOT NULL"
    ):
        for like in _likes(row):
            seconds[like].append(row["seconds"])
    return {like: fmean(all_of_it) for like, all_of_it in seconds.items()}


def _labels(configs: Sequence[RunConfig]) -> list[str]:
    """Model and method, and the axes along which cells differ."""
    varying = [
        name
        for name in AXES
        if name in ("model", "method") or len({getattr(config, name) for config in configs}) > 1
    ]
    plain = ("model", "method", "behavior", "protocol", "dtype")
    return [
        " · ".join(
            str(getattr(config, name)) if name in plain else f"{name} {getattr(config, name)}"
            for name in varying
        )
        for config in configs
    ]


def _latest(store: Store) -> dict[str, Mapping[str, Any]]:
    """The newest attempt of every config: what it has come to."""
    rows = store.rows("SELECT config_hash, id, state, error FROM attempts ORDER BY id")
    return {row["config_hash"]: row for row in rows}


def _state(
    plan: Plan, hash: str, store: Store | None, newest: Mapping[str, Any] | None
) -> tuple[str, str | None]:
    if store is None or newest is None:
        return MISSING, None
    done = store.latest(hash)
    if done is not None:
        return (MISSING if lacks_something(plan, store.attempt(done)) else STORED), None
    if newest["state"] == "failed" and newest["error"] != INTERRUPTED:
        return FAILED, newest["error"]
    return MISSING, None
