"""A run that died is taken up where it stopped, by one process."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from isokl_db import INTERRUPTED, Attempt, Store, config_hash

Spawn = Callable[..., "Popen[str]"]
Config = Callable[..., dict[str, Any]]

DIES_IN_A_PHASE = """
import json, time
from sqlalchemy import event
from isokl_db import Measurement, Store
store = Store(sys.argv[1])
attempt = store.begin(json.loads(sys.argv[2]), prompts={"fit": ["a"]}, provenance={"run": 1})
attempt.commit_phase("fit", 1.0, data={"layers": [3]}, steering=b"tensors")

@event.listens_for(store.engine, "after_cursor_execute")
def hang(connection, cursor, statement, *rest):
    if "INTO measurements" in statement:
        print("in the middle", flush=True)
        time.sleep(60)

rows = [Measurement(sign=1, metric="m", quantity="q", alpha=1.0, prompt=i, value=1.0) for i in range(5_000)]
attempt.commit_phase("measure", 1.0, measurements=rows)
"""

TAKES_OVER = """
from isokl_db import Store
store = Store(sys.argv[1])
print("ready", flush=True); sys.stdin.readline()
attempt = store.resumable(sys.argv[2])
print("mine" if attempt else "not mine", flush=True); sys.stdin.readline()
"""


def hear(process: "Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def killed(spawn: Spawn, config: Config, store: Store) -> str:
    """The hash of a config whose run was killed with -9 while it stored its second phase."""
    process = spawn(DIES_IN_A_PHASE, json.dumps(config()))
    assert hear(process) == "in the middle"
    assert store.resumable(config_hash(config())) is None  # it lives
    process.kill()
    process.wait()
    return config_hash(config())


def test_a_killed_run_keeps_its_finished_phases_and_goes_on_from_there(
    killed: str, store: Store, path: Path
) -> None:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    attempt = store.resumable(killed, provenance={"run": 2})
    assert attempt is not None
    assert (attempt.id, attempt.hash) == (1, killed)
    assert (attempt.phases(), attempt.steering()) == ({"fit": {"layers": [3]}}, b"tensors")
    assert store.record(1)["measurements"] == []
    attempt.commit_phase("measure", 1.0)
    attempt.done()
    assert store.latest(killed) == 1
    history = store.record(1)["provenance"]
    assert history["resumed"][0].pop("at") > "2020"
    assert history == {"run": 1, "resumed": [{"run": 2}]}
    assert store.resumable(killed) is None


def test_of_many_processes_one_takes_it(
    killed: str, spawn: Spawn, store: Store, all_at_once: Callable[[list["Popen[str]"]], None]
) -> None:
    processes = [spawn(TAKES_OVER, killed) for _ in range(3)]
    all_at_once(processes)
    assert sorted(hear(process) for process in processes) == ["mine", "not mine", "not mine"]
    (row,) = store.rows("select pid, state from attempts")
    assert row["state"] == "running"
    assert row["pid"] in [process.pid for process in processes]


def test_this_process_goes_on_with_what_it_began(begin: Callable[..., Attempt], store: Store) -> None:
    attempt = begin()
    again = store.resumable(attempt.hash)
    assert again is not None
    assert again.id == attempt.id


def test_an_interrupted_run_is_taken_up_on_any_host(begin: Callable[..., Attempt], store: Store) -> None:
    attempt = begin()
    attempt.fail(INTERRUPTED)
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE attempts SET host = 'elsewhere'")
    again = store.resumable(attempt.hash)
    assert again is not None
    record = store.record(again.id)
    assert (record["state"], record["error"], record["finished_at"]) == ("running", None, None)


@pytest.mark.parametrize("end", ["done", "fail", "skip"])
def test_a_run_that_ended_is_not_taken_up(begin: Callable[..., Attempt], store: Store, end: str) -> None:
    attempt = begin()
    getattr(attempt, end)(*(() if end == "done" else ("because",)))
    assert store.resumable(attempt.hash) is None
    assert store.resumable("unknown") is None


def test_a_run_on_another_host_is_not_taken_up(begin: Callable[..., Attempt], store: Store) -> None:
    attempt = begin()
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE attempts SET host = 'elsewhere', pid = 999999999")
    assert store.resumable(attempt.hash) is None


def test_only_the_latest_attempt_is_taken_up(begin: Callable[..., Attempt], store: Store) -> None:
    first, second = begin(), begin()
    second.done()
    assert first.id < second.id
    assert store.resumable(first.hash) is None
