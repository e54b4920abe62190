"""One config, its prompts, an open store, and other processes that use the same file."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from isokl_db import Attempt, Store

PACKAGE_ROOT = Path(__file__).parents[2] / "db"
PROMPTS = {"fit": ["a", "b"], "calibration": ["c", "d"], "holdout": ["e", "f"]}


def example_config(**changes: Any) -> dict[str, Any]:
    return {
        "model": "tiny-qwen",
        "behavior": "sentiment",
        "method": "pca",
        "stat": "kl_p95",
        "target": 1.0,
        "protocol": "stable",
        "seed": 0,
        "window": 20,
        "layers": [3],
        **changes,
    }


@pytest.fixture
def config() -> Callable[..., dict[str, Any]]:
    return example_config


@pytest.fixture
def prompts() -> dict[str, list[str]]:
    return PROMPTS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "isokl.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with Store(path, busy_timeout=5) as opened:
        yield opened


@pytest.fixture
def begin(store: Store) -> Callable[..., Attempt]:
    """Begin an attempt at the example config, with changes."""
    return lambda **changes: store.begin(
        example_config(**changes), prompts=PROMPTS, provenance={"device": "cpu"}
    )


@pytest.fixture
def spawn(path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start Python on a script that finds the database's path in sys.argv[1]; it is ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
        script = f"import sys; sys.path.insert(0, {str(PACKAGE_ROOT)!r})\n{script}"
        command = [sys.executable, "-c", script, str(path), *arguments]
        process = subprocess.Popen(command, text=True, stdin=PIPE, stdout=PIPE, stderr=PIPE)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def all_at_once() -> Callable[[Sequence["subprocess.Popen[str]"]], None]:
    """Let processes go on in one moment, once each has said that it is ready."""

    def release(processes: Sequence["subprocess.Popen[str]"]) -> None:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()

    return release
