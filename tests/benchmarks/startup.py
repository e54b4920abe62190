"""What a command costs beside its work: CPU seconds of a start, and of a report on a large store."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tests.benchmarks.many_runs import fill

ISOKL = str(Path(sys.executable).with_name("isokl"))
PEAK = """
import json, sys
from isokl_bench.cli import invoke
assert invoke(sys.argv[1:]) == 0
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps(int(peak.split()[1]) / 1024), file=sys.stderr)
"""


def startup_seconds(*args: str, times: int = 7) -> float:
    """User CPU seconds of `isokl ARGS`: the median of so many calls after one that compiles the modules."""
    with TemporaryDirectory() as cache:
        return median([_run([ISOKL, *args], cache)[0] for _ in range(times + 1)][1:])


def report_cost(runs: int = 10_000, seeds: int = 5) -> tuple[float, float]:
    """CPU seconds (user and system) and peak MB of the second `isokl report` from a store with so many runs
    (Linux)."""
    with TemporaryDirectory() as folder:
        store = Path(folder, "isokl.db")
        fill(store, runs, seeds)
        command = [sys.executable, "-c", PEAK, "report", "--db", str(store), "--output", f"{folder}/report"]
        _run(command, folder)
        user, system, said = _run(command, folder)
        return user + system, json.loads(said)


def _run(command: list[str], cache: str) -> tuple[float, float, str]:
    """User and system seconds of a process, and what it said on stderr; `cache` holds compiled modules."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    env |= {"PYTHONPYCACHEPREFIX": cache, "OMP_NUM_THREADS": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, done.stderr
