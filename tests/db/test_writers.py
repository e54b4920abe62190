"""Many processes that write into one file at once: they take turns, and nothing is lost."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from subprocess import Popen
from typing import Any

from isokl_db import Store, config_hash

Spawn = Callable[..., "Popen[str]"]
Release = Callable[[list["Popen[str]"]], None]
WRITERS, RUNS, ROWS = 8, 12, 2_000

WRITES = f"""
from isokl_db import Calibration, Measurement, Store
me = int(sys.argv[2])
print("ready", flush=True); sys.stdin.readline()
with Store(sys.argv[1]) as store:
    for run in range({RUNS}):
        config = {{"writer": me, "run": run}}
        attempt = store.begin(config, prompts={{"fit": ["a"]}}, provenance={{}})
        attempt.commit_phase("fit", 0.1, steering=bytes(50_000))
        rows = [Measurement(sign=1, metric="m", quantity="q", alpha=1.0, prompt=i, value=me + i / 10_000)
                for i in range({ROWS})]
        attempt.commit_phase("measure", 0.1, measurements=rows)
        attempt.done()
"""

BEGINS_ALONE = """
from isokl_db import Store
print("ready", flush=True); sys.stdin.readline()
with Store(sys.argv[1]) as store:
    attempt = store.begin_exclusive({"seed": 0}, prompts={"fit": ["a"]}, provenance={})
    print("mine" if attempt else "taken", flush=True); sys.stdin.readline()
"""


def test_eight_processes_write_at_once_and_nothing_is_lost(
    spawn: Spawn, path: Path, all_at_once: Release
) -> None:
    processes = [spawn(WRITES, str(me)) for me in range(WRITERS)]
    all_at_once(processes)
    assert [process.communicate()[1] for process in processes] == [""] * WRITERS
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    with Store(path, read_only=True) as store:
        states = store.rows("select state, count(*) n from attempts group by state")
        assert states == [{"state": "done", "n": WRITERS * RUNS}]
        found = store.rows(
            "select min(value) low, max(value) high, count(*) n from measurements group by attempt_id order by low"
        )
        expected = [
            {"low": me, "high": me + (ROWS - 1) / 10_000, "n": ROWS}
            for me in range(WRITERS)
            for _ in range(RUNS)
        ]
        assert found == expected


def test_of_processes_that_want_to_be_alone_one_begins(
    spawn: Spawn, path: Path, store: Store, all_at_once: Release
) -> None:
    processes = [spawn(BEGINS_ALONE) for _ in range(3)]
    all_at_once(processes)
    said = []
    for process in processes:
        assert process.stdout is not None
        said.append(process.stdout.readline().strip())
    assert sorted(said) == ["mine", "taken", "taken"]


def test_a_done_attempt_is_not_begun_beside_but_a_failed_one_is(store: Store) -> None:
    config: dict[str, Any] = {"seed": 0}
    first = store.begin_exclusive(config, prompts={}, provenance={})
    assert first is not None
    first.fail("it broke")
    second = store.begin_exclusive(config, prompts={}, provenance={})
    assert second is not None
    second.done()
    assert store.begin_exclusive(config, prompts={}, provenance={}) is None
    assert store.latest(config_hash(config)) == second.id


def test_a_dead_attempt_under_a_failed_one_is_not_in_the_way(store: Store, spawn: Spawn, path: Path) -> None:
    dead = spawn(
        "from isokl_db import Store; Store(sys.argv[1]).begin({'seed': 0}, prompts={}, provenance={})"
    )
    assert dead.communicate()[1] == ""
    store.begin({"seed": 0}, prompts={}, provenance={}).fail("it broke")
    assert store.begin_exclusive({"seed": 0}, prompts={}, provenance={}) is not None


def test_a_process_that_has_the_number_of_a_dead_one_is_told_from_it(
    store: Store, spawn: Spawn, path: Path
) -> None:
    """As after a restart of the machine: the attempt is older than the process that has its number now."""
    attempt = store.begin({"seed": 0}, prompts={}, provenance={})
    other = spawn("print('ready', flush=True); sys.stdin.readline()")
    assert other.stdout is not None
    other.stdout.readline()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update attempts set pid = ?", [other.pid])
    # It may be that process, which began no later than the clocks tell.
    assert store.resumable(attempt.hash) is None
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("update attempts set started_at = '2020-01-01T00:00:00.000000+00:00'")
    taken = store.resumable(attempt.hash, {"device": "cpu"})
    assert taken is not None
    with closing(sqlite3.connect(path)) as connection, connection:  # resumed by that process, a moment ago
        connection.execute("update attempts set pid = ?", [other.pid])
    assert store.resumable(attempt.hash) is None
