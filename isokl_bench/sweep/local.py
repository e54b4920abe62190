"""Cells on this machine: worker processes that a kill, a crash or an endless loop of one cell does not take down.

Another executor, for a cluster say, has the same shape: it is given cells and yields each with its outcome, and shares
nothing with its workers but the store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from signal import Signals
from tempfile import TemporaryDirectory

from pebble import ProcessExpired, ProcessPool

from isokl_bench.sweep.cell import Outcome, Progress, run_cell, start_worker
from isokl_bench.sweep.plan import Cell

Tell = Callable[[Progress], None]


def run_locally(
    cells: Sequence[Cell], db: str, tell: Tell, *, jobs: int = 1, timeout: float | None = None
) -> Iterator[tuple[Cell, Outcome]]:
    """Run cells in `jobs` processes and yield each with its outcome, in the order in which they end.

    timeout: seconds that a cell may take. Where the loop that reads from here is left, by Ctrl-C say, the workers are
    stopped; what they have stored stays."""
    share_cores(jobs)
    context = get_context("spawn")
    reader, writer = context.Pipe(duplex=False)
    with TemporaryDirectory(prefix="isokl-") as locks, _listening(reader, tell):
        pool = ProcessPool(jobs, initializer=start_worker, initargs=[db, writer, locks], context=context)
        try:
            scheduled = {
                pool.schedule(run_cell, args=[cell.index, cell.config], timeout=timeout): cell
                for cell in cells
            }
            for future in as_completed(scheduled):
                yield scheduled[future], _outcome(future, timeout)
        finally:
            pool.stop()
            pool.join()


def share_cores(jobs: int) -> None:
    """Divide the processor's cores among the workers, which read this when they start; what the user has set stays."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // jobs)))


def _outcome(future: Future[Outcome], timeout: float | None) -> Outcome:
    try:
        return future.result()
    except TimeoutError:
        return Outcome("failed", f"took longer than {timeout:g} s (--timeout-cell)", seconds=timeout or 0.0)
    except ProcessExpired as error:
        code = int(error.exitcode or 0)
        if code < 0:
            killer = Signals(-code).name
            hint = ": out of memory?" if killer == "SIGKILL" else ""
            return Outcome("interrupted", f"its worker process was ended by {killer}{hint}")
        return Outcome("failed", f"a plugin ended the worker process (exit code {code})")


@contextmanager
def _listening(reader: Connection, tell: Tell) -> Iterator[None]:
    """Pass what workers send on to `tell`, in a thread. Their messages are short enough for a pipe to take each whole."""
    ended = threading.Event()

    def listen() -> None:
        while not ended.is_set():
            if reader.poll(0.1):
                tell(reader.recv())

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
