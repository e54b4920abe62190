"""One cell in a worker process: a plan in, a record in the store out, and a few words back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from typing import Any

from isokl_bench.api import TakenError, run_plan
from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.events import Event, one_line
from isokl_bench.pipeline.plan import resolve
from isokl_db import Store, StoreError, config_hash
from isokl_registry import load_registry


@dataclass(frozen=True)
class CellResult:
    """How a cell ended: done, stored (was done already), failed (its attempt says why), taken (another process is at
    it), interrupted (its worker was killed: the next sweep takes it up) or broken (the store failed).

    found: of each sign outcome, coefficient, value and holdout."""

    state: str
    error: str | None = None
    attempt: int | None = None
    seconds: float = 0.0
    found: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Progress:
    """What a worker is doing: share of the cell done, and in words."""

    worker: int
    cell: int
    share: float
    text: str


class Worker:
    """What lasts from one cell to the next in a worker process: the loaded model and the way to tell of progress."""

    def __init__(
        self, db: str, tell: Callable[[Progress], None], device: str | None, exclusive: bool
    ) -> None:
        from isokl_bench.pipeline.model_cache import ModelCache

        self.db, self.tell, self.device, self.exclusive = db, tell, device, exclusive
        self.model_cache = ModelCache()

    def run(self, index: int, config: RunConfig) -> CellResult:
        """Run a cell; whatever a plugin raises is stored with the attempt and comes back as a CellResult."""
        start = time.monotonic()
        if self.device is not None and config.device == "auto":
            config = replace(config, device=self.device)
        try:
            with Store(self.db) as store:
                attempt, cached = self._run(index, config, store)
                found = store.rows(_FOUND, id=attempt)
            return CellResult("stored" if cached else "done", None, attempt, time.monotonic() - start, found)
        except TakenError as error:
            return CellResult("taken", str(error))
        except StoreError as error:
            return CellResult("broken", str(error))
        except BaseException as error:  # a library in Rust panics with one; Ctrl-C does not reach a worker
            return CellResult("failed", one_line(error), seconds=time.monotonic() - start)

    def _run(self, index: int, config: RunConfig, store: Store) -> tuple[int, bool]:
        plan = resolve(config, load_registry())

        def listen(event: Event) -> None:
            self.tell(Progress(os.getpid(), index, event.progress, event.text))

        try:
            return run_plan(
                plan, store, exclusive=self.exclusive, model_cache=self.model_cache, listen=listen
            )
        except (TakenError, StoreError):
            raise
        except BaseException as error:
            attempt = store.resumable(config_hash(plan.identity))
            if attempt is not None:  # ours: it could not take its last word
                attempt.fail(one_line(error))
            raise


_FOUND = """
    SELECT k.sign, k.outcome, k.coefficient, k.value,
           (SELECT s.mean FROM summaries s WHERE s.attempt_id = k.attempt_id AND s.sign = k.sign
            AND s.metric = 'validation' AND s.quantity = 'holdout') AS holdout
    FROM calibrations k WHERE k.attempt_id = :id ORDER BY k.sign DESC
"""


def work(pipe: Connection, db: str, number: int, threads: int, exclusive: bool) -> None:
    """What a worker process does: cells come through the pipe, progress and results go back.

    It ends when the process that started it does, however that ends.

    Args:
        pipe: to that process.
        db: where the results go.
        number: of the worker, from 0.
        threads: how many cores are its share.
        exclusive: leave a cell to another process that is marked as running it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which then ends its workers
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.dup2(2, 1)  # stdout is the sweep's: what a plugin prints goes with the messages
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read when torch is loaded, which is below
    worker = Worker(db, pipe.send, own_gpu(number), exclusive)
    while True:
        pipe.send(worker.run(*pipe.recv()))


def own_gpu(number: int) -> str | None:
    """The GPU of a worker where there are several."""
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{number % count}" if count > 1 else None


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
