"""Carrying out a sweep: every cell has its last word in the store, whatever became of its worker."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from isokl_bench.sweep.plan import Cell
from isokl_bench.sweep.pool import run_in_pool
from isokl_bench.sweep.worker import CellResult, Progress
from isokl_db import INTERRUPTED, Store, StoreError

Executor = Callable[[Sequence[Cell], str, Callable[[Progress], None]], Iterator[tuple[Cell, CellResult]]]


def ignore(progress: Progress) -> None:
    """Tell nobody."""


def run_cells(
    cells: Sequence[Cell],
    db: str | Path,
    *,
    jobs: int = 1,
    timeout: float | None = None,
    exclusive: bool = True,
    tell: Callable[[Progress], None] = ignore,
    executor: Executor | None = None,
) -> Iterator[tuple[Cell, CellResult]]:
    """Run cells; what is stored already is not computed again.

    Args:
        cells: what to run, see `plan_cells`.
        db: where the results go: a path or an SQLAlchemy URL.
        jobs: worker processes.
        timeout: seconds that one cell may take.
        exclusive: leave a cell to another process that is marked as running it, and ask once more at the end.
        tell: called with Progress, from several threads.
        executor: who computes, instead of processes on this machine.

    Yields:
        Each cell with its result.

    Raises:
        StoreError: when the store fails; what is stored stays, and the next call goes on from there.
    """
    executor = executor or partial(run_in_pool, jobs=jobs, timeout=timeout, exclusive=exclusive)
    todo: Sequence[Cell] = cells
    with Store(db) as store:
        if store.path is None and store.engine.dialect.name == "sqlite":
            raise StoreError(
                "a database in memory cannot be shared with workers: give the path of a file with --db"
            )
        for last in (False, True):
            taken = []
            for cell, result in _results(executor, todo, store, str(db), tell):
                if result.state == "broken":
                    raise StoreError(result.error)
                if result.state == "taken" and not last:
                    taken.append(cell)
                else:
                    yield cell, _stored(store, cell, result)
            todo = taken


def _results(
    executor: Executor, cells: Sequence[Cell], store: Store, db: str, tell: Callable[[Progress], None]
) -> Iterator[tuple[Cell, CellResult]]:
    """What the executor yields. When it is left early its workers are stopped, and what they leave is said to be cut
    short; if that cannot be said now, the next call sees that they are gone."""
    if not cells:
        return
    left = {cell.index: cell for cell in cells}
    results = executor(cells, db, tell)
    try:
        for cell, result in results:
            left.pop(cell.index, None)
            yield cell, result
    finally:
        if isinstance(results, Generator):
            results.close()
        with suppress(StoreError):
            for cell in left.values():
                _close(store, cell, INTERRUPTED)


def _stored(store: Store, cell: Cell, result: CellResult) -> CellResult:
    """See to it that the store knows how the cell ended, also where its worker could not say so any more."""
    if result.state in ("failed", "interrupted"):
        _close(store, cell, INTERRUPTED if result.state == "interrupted" else str(result.error))
    return result


def _close(store: Store, cell: Cell, error: str) -> None:
    """Give the attempt of a worker that is gone its last word; one that failed before it began any gets one."""
    attempt = store.resumable(cell.hash)
    if attempt is None and error != INTERRUPTED and not _failed(store, cell):
        plan = cell.plan
        attempt = store.begin_exclusive(plan.identity, prompts=plan.splits.texts(), provenance={})
    if attempt is not None:
        attempt.fail(error)


def _failed(store: Store, cell: Cell) -> bool:
    newest = "SELECT state FROM attempts WHERE config_hash = :hash ORDER BY id DESC LIMIT 1"
    return [row["state"] for row in store.rows(newest, hash=cell.hash)] == ["failed"]
