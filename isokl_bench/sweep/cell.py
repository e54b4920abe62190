"""One cell in a worker process: a plan in, a record in the store out, and a few words back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from isokl_bench.config import RunConfig, resolve
from isokl_bench.events import Event
from isokl_db import Store, StoreError
from isokl_registry import load_registry

WORDS = 160  # characters of a message: what a pipe takes whole, whoever else writes to it


@dataclass(frozen=True)
class Outcome:
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

    def __init__(self, db: str, tell: Callable[[Progress], None], device: str | None = None) -> None:
        from isokl_bench.workbench import Workbench

        self.db, self.tell, self.device = db, tell, device
        self.workbench = Workbench()

    def run(self, index: int, config: RunConfig) -> Outcome:
        """Run a cell; what a method or a metric raises is stored with the attempt and comes back as an Outcome."""
        from isokl_bench.api import TakenError, run_plan

        start = time.monotonic()
        try:
            if self.device is not None and config.device == "auto":
                config = replace(config, device=self.device)
            plan = resolve(config, load_registry())
            with Store(self.db) as store:
                attempt, cached = run_plan(
                    plan,
                    store,
                    alone=True,
                    workbench=self.workbench,
                    listen=lambda e: self._pass_on(index, e),
                )
                found = store.rows(_FOUND, id=attempt)
            return Outcome("stored" if cached else "done", None, attempt, time.monotonic() - start, found)
        except TakenError as error:
            return Outcome("taken", str(error))
        except StoreError as error:
            return Outcome("broken", str(error))
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            return Outcome("failed", text, seconds=time.monotonic() - start)

    def _pass_on(self, index: int, event: Event) -> None:
        self.tell(Progress(os.getpid(), index, event.progress, event.text[:WORDS]))


_FOUND = """
    SELECT k.sign, k.outcome, k.coefficient, k.value,
           (SELECT s.mean FROM summaries s WHERE s.attempt_id = k.attempt_id AND s.sign = k.sign
            AND s.metric = 'validation' AND s.quantity = 'holdout') AS holdout
    FROM calibrations k WHERE k.attempt_id = :id ORDER BY k.sign DESC
"""

_worker: Worker


def start_worker(db: str, pipe: Connection, locks: str) -> None:
    """Set a fresh worker process up. It ends when the process that started it does, however that ends."""
    global _worker
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = Worker(db, pipe.send, own_gpu(locks))


def run_cell(index: int, config: RunConfig) -> Outcome:
    """Run a cell in this worker process."""
    return _worker.run(index, config)


def own_gpu(locks: str) -> str | None:
    """The first GPU that no other worker has, None where there are fewer than two. It is held by a lock on a file in the
    folder `locks`, which the system lets go of whatever becomes of the worker."""
    import torch

    count = torch.cuda.device_count()
    for number in range(count) if count > 1 else ():
        lock = FileLock(Path(locks) / f"gpu{number}.lock")
        with suppress(Timeout):
            lock.acquire(blocking=False)
            _held.append(lock)
            return f"cuda:{number}"
    return f"cuda:{os.getpid() % count}" if count > 1 else None


_held: list[FileLock] = []  # a lock that is forgotten is let go


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
