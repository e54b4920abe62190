"""What the benchmarks share: the steerings they time, and the one table that `make bench` prints.

Every case is timed beside its reference in the same process. Times are medians; nothing here fails because it
is slow."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line sets it
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
HEAD = "| case | isokl | reference | ratio | wanted |\n|---|--:|--:|--:|--:|"


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    case: str
    mine: str
    reference: str
    ratio: str
    wanted: str


LINES: list[Line] = []


@pytest.fixture(scope="session", autouse=True)
def all_cores():
    """The suite runs on one thread; here every core counts, for the reference as for isokl."""
    import torch

    torch.set_num_threads(THREADS)


@pytest.fixture
def beside(benchmark) -> Callable[..., Any]:
    """beside(case, mine, reference, wanted, …) times both, adds a line to the table, and returns what both
    returned.

    times: how often each is run. scale: the reference's time is multiplied by it (where one part of it is
    timed)."""

    def run(
        case: str,
        mine: Callable[[], Any],
        reference: Callable[[], Any],
        wanted: str,
        *,
        times: tuple[int, int] = (5, 3),
        scale: float = 1.0,
    ) -> tuple[Any, Any]:
        found = benchmark.pedantic(mine, rounds=times[0], warmup_rounds=int(times[0] > 3))
        seconds, other = timed(reference, times[1])
        seconds *= scale
        own = benchmark.stats.stats.median
        LINES.append(Line(case, f"{own:.3g} s", f"{seconds:.3g} s", f"{seconds / own:.1f} ×", wanted))
        return found, other

    return run


def timed(work: Callable[[], Any], times: int) -> tuple[float, Any]:
    """Median seconds of `times` calls, and what the last returned."""
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        found = work()
        taken.append(time.perf_counter() - begin)
    return median(taken), found


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The table comes last, as Markdown."""
    if LINES:
        terminalreporter.write_line("")
        terminalreporter.write_line(HEAD)
        for line in LINES:
            terminalreporter.write_line(
                f"| {line.case} | {line.mine} | {line.reference} | {line.ratio} | {line.wanted} |"
            )
        terminalreporter.write_line("")
        terminalreporter.write_line(machine())


def machine() -> str:
    """One line on what this was measured with."""
    import torch
    import transformers

    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return (
        f"{THREADS} threads on {cpu}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}"
    )
