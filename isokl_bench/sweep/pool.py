"""Cells on this machine: worker processes that a kill, a crash or an endless loop of one cell does not take down.

Another executor, for a cluster say, has the same shape: it is given cells and yields each with its result, and shares
nothing with its workers but the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from queue import SimpleQueue
from signal import Signals

from isokl_bench.engine.memory import processors
from isokl_bench.sweep.plan import Cell
from isokl_bench.sweep.worker import CellResult, Progress, work

Tell = Callable[[Progress], None]
GRACE = 3.0  # seconds that a process has to end by itself before it is killed


def run_in_pool(
    cells: Sequence[Cell],
    db: str,
    tell: Tell,
    *,
    jobs: int = 1,
    timeout: float | None = None,
    exclusive: bool = True,
) -> Iterator[tuple[Cell, CellResult]]:
    """Run cells in worker processes.

    Where the loop that reads from here is left, by Ctrl-C say, the workers are stopped; what they have stored stays.

    Args:
        cells: what to run.
        db: where the results go.
        tell: is called from several threads.
        jobs: how many processes.
        timeout: seconds that a cell may take.
        exclusive: leave a cell to another process that is marked as running it.

    Yields:
        Each cell with its result, in the order in which they end.
    """
    jobs = min(jobs, len(cells))
    threads = max(1, processors() // jobs)
    slots = [_Slot((db, number, threads, exclusive), tell, timeout) for number in range(jobs)]
    free: SimpleQueue[_Slot] = SimpleQueue()
    for slot in slots:
        free.put(slot)

    def run(cell: Cell) -> CellResult:
        slot = free.get()
        try:
            return slot.run(cell)
        finally:
            free.put(slot)

    pool = ThreadPoolExecutor(jobs)
    try:
        scheduled = {pool.submit(run, cell): cell for cell in cells}
        for future in as_completed(scheduled):
            yield scheduled[future], future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for slot in slots:
            slot.stop()
        pool.shutdown()


class _Slot:
    """Room for one worker process, which is started again when it has died. A process has a pipe of its own, so that
    none can be stopped in the middle of something that the others wait for."""

    def __init__(self, settings: tuple[str, int, int, bool], tell: Tell, timeout: float | None) -> None:
        self.settings, self.tell, self.timeout = settings, tell, timeout
        self.process: SpawnProcess | None = None
        self.pipe: Connection
        self.stopped = False
        self.starting = threading.Lock()

    def run(self, cell: Cell) -> CellResult:
        """Run a cell to its end, whatever that is."""
        begun = time.monotonic()
        process = self._started()
        if process is None:
            return CellResult("interrupted", "the sweep was stopped")
        try:
            self.pipe.send((cell.index, cell.config))
            while True:
                left = None if self.timeout is None else begun + self.timeout - time.monotonic()
                ready = wait([self.pipe, process.sentinel], left)
                if not ready:
                    self._end()
                    error = f"took longer than {self.timeout:g} s (--timeout-cell)"
                    return CellResult("failed", error, seconds=time.monotonic() - begun)
                message = self.pipe.recv()  # what a dead process has sent is still there, and then EOFError
                if isinstance(message, CellResult):
                    return message
                self.tell(message)
        except (EOFError, OSError):
            self._end()
            return _ended(process.exitcode or 0)

    def stop(self) -> None:
        """End the process, and start none again."""
        with self.starting:
            self.stopped = True
        self._end()

    def _started(self) -> SpawnProcess | None:
        with self.starting:
            if self.stopped:
                return None
            if self.process is None:
                context = get_context("spawn")
                self.pipe, theirs = context.Pipe()
                self.process = context.Process(target=work, args=(theirs, *self.settings))
                self.process.start()
                theirs.close()  # so that the end of the process is the end of the pipe
            return self.process

    def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        process.join(GRACE)
        if process.exitcode is None:
            process.kill()
            process.join()


def _ended(code: int) -> CellResult:
    if code >= 0:
        return CellResult("failed", f"a plugin ended the worker process (exit code {code})")
    killer = Signals(-code).name
    hint = ": out of memory?" if killer == "SIGKILL" else ""
    return CellResult("interrupted", f"its worker process was ended by {killer}{hint}")
