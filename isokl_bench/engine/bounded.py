"""Running what may be hostile: with an end to its time and, on Linux, in a process of its own."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

if sys.platform != "win32":
    import resource

MEMORY = 2**30  # bytes that a child may take beyond what it begins with


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Python code in this block raises TimeoutError once it has run so long: a loop is stopped, in any
    thread, at its next line. A single long step inside the interpreter (9**9**9) is not; for that there is
    `in_child`."""
    end = time.monotonic() + seconds

    def check(frame: FrameType, event: str, arg: Any) -> Any:
        if time.monotonic() > end:
            raise TimeoutError(f"it takes more than {seconds:g} s")
        return check

    before = sys.gettrace()
    sys.settrace(check)
    try:
        yield
    finally:
        sys.settrace(before)


def in_child(job: Callable[[], Any], seconds: float) -> Any:
    """What `job()` returns (JSON values), from a child that is killed when it takes too much time or memory.

    Elsewhere than on Linux the job runs here: no fork there is safe beside torch.

    Raises:
        TimeoutError: when it took longer than `seconds`.
        MemoryError: when it took more than MEMORY.
    """
    if sys.platform != "linux":
        return job()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # It warns of torch's threads, which the child has no use for.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _answer(job, writing)
    os.close(writing)
    try:
        data = _read(reading, seconds)
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if not data:
        raise MemoryError("it takes too much memory")
    return json.loads(data)


def _answer(job: Callable[[], Any], writing: int) -> None:
    """The child's life."""
    try:
        with suppress(OSError, ValueError):  # a lower limit is set already
            _limit_memory()
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(json.dumps(job()).encode())
    finally:
        os._exit(0)  # nothing of the parent's is flushed or closed twice


def _limit_memory() -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _read(pipe: int, seconds: float) -> bytes:
    """All that comes out of a pipe until it is closed."""
    end, data = time.monotonic() + seconds, b""
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise TimeoutError(f"it takes more than {seconds:g} s")
        part = os.read(pipe, 2**16)
        if not part:
            return data
        data += part
