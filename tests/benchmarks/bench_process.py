"""Whole commands, and peak memory: each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from isokl_registry import IsoklError, load_registry
from tests.benchmarks.conftest import LINES, Line, timed
from tests.benchmarks.startup import report_cost, startup_seconds
from tests.benchmarks.subjects import REAL

ROOT = Path(__file__).parents[2]


def python(*args: str, cwd: Path | None = None) -> str:
    """Output of a Python process that has all cores."""
    env = {key: value for key, value in os.environ.items() if key not in ("OMP_NUM_THREADS", "ISOKL_DB")}
    done = subprocess.run(
        [sys.executable, *args], capture_output=True, text=True, env=env, cwd=cwd or ROOT, check=True
    )
    return done.stdout


def test_whole_run(tmp_path):
    seconds = whole_run(tmp_path, "tiny-qwen", "float32", 4)
    LINES.append(Line("whole `isokl run`, tiny-qwen, all metrics", f"{seconds:.1f} s", "", "", "≤ 12 s"))


@pytest.mark.parametrize(("dtype", "wanted"), [("float32", "≤ 120 s"), ("bfloat16", "≤ 60 s")])
def test_whole_run_of_the_real_model(tmp_path, dtype, wanted):
    try:
        load_registry().model(REAL).identity()
    except IsoklError as error:
        pytest.skip(str(error))
    seconds = whole_run(tmp_path, REAL, dtype, 1)
    LINES.append(Line(f"whole `isokl run`, {REAL}, {dtype}", f"{seconds:.0f} s", "", "", wanted))


def whole_run(folder: Path, model: str, dtype: str, times: int) -> float:
    """A new database each time; imports and loading included."""
    isokl = "from isokl_bench.cli import main; main()"
    numbers = iter(range(100))

    def run() -> None:
        arguments = ["run", "--method", "pca", "--model", model, "--dtype", dtype]
        python("-c", isokl, *arguments, "--quiet", "--db", f"{next(numbers)}.db", cwd=folder)

    return timed(run, times)[0]


def test_peak_memory():
    """64 rows, 256 tokens, a vocabulary of 151 936."""
    found = json.loads(python("-m", "tests.benchmarks.peak_memory"))
    LINES.append(
        Line(
            "peak memory of a rollout beyond weights and caches",
            f"{found['extra'] / 2**30:.2f} GiB",
            f"{found['weights'] / 2**30:.2f} + {found['caches'] / 2**30:.2f} GiB",
            "",
            "≤ 1 GB",
        )
    )


@pytest.mark.parametrize("command", ["--help", "plugins"])
def test_startup(command):
    LINES.append(
        Line(f"`isokl {command}`, user time", f"{startup_seconds(command):.3f} s", "", "", "≤ 0.15 s")
    )


def test_report():
    seconds, megabytes = report_cost()
    LINES.append(
        Line("`isokl report`, 10 000 runs", f"{seconds:.2f} s, {megabytes:.0f} MB", "", "", "≤ 3 s, ≤ 500 MB")
    )
