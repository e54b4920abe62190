"""What a sweep survives, with real processes: kills, crashes, endless loops, full disks, two sweeps at once."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from isokl_db import Store
from tests.scratch import ISOKL

SMALL = """
protocol = "published"
window = 6
fit_prompts = 8
alphas = [0, 1]
metrics = ["target_logit[window=5]", "base_nll[window=6]", "branch_pmass[window=6]"]
"""

FAULTY = '''
"""Methods that do what no method should."""
import os, sys, time
from dataclasses import dataclass
from isokl_plugins.methods.mean_diff import MeanDiff
from isokl_registry import hookimpl

def method(title, body):
    @dataclass(frozen=True)
    class Faulty(MeanDiff):
        """What it does is its name."""
        name = title
        def fit(self, contrast):
            return body(super().fit(contrast))
    return Faulty

def fails(state):
    raise RuntimeError("I never work")

class Panic(BaseException):
    """As libraries in Rust raise them."""

def panics(state):
    print("I go to standard output")
    raise Panic("I panic")

def mumbles(state):
    raise RuntimeError("no text: \\udc80")

def hangs(state):
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass

FAULTS = {
    "raises": fails,
    "nan": lambda state: {key: value * float("nan") for key, value in state.items()},
    "exits": lambda state: sys.exit(3),
    "dies": lambda state: os._exit(7),
    "leaves": lambda state: os._exit(0),
    "panics": panics,
    "mumbles": mumbles,
    "hangs": hangs,
}

@hookimpl
def register_methods(register):
    for title, body in FAULTS.items():
        register(method(title, body))
'''

FAULTS = {  # what each of them is reported as
    "raises": "I never work",
    "nan": "nan gives NaN or infinity after block 3",
    "exits": "a plugin tried to exit the interpreter",
    "dies": "a plugin ended the worker process (exit code 7)",
    "leaves": "a plugin ended the worker process (exit code 0)",
    "panics": "I panic",
    "mumbles": "no text: \\udc80",
}

pytestmark = pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for worker processes in /proc")


def start(*args, cwd, limit=None, path=None):
    """`isokl sweep` in a session of its own, as a shell would start it."""

    def prepare():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what a shell starts with & is deaf to Ctrl-C
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    env = os.environ | {"OMP_NUM_THREADS": "1"}
    if path is not None:
        env |= {"PYTHONPATH": str(path), "ISOKL_LOAD_PLUGINS": "isokl-faulty"}
    return subprocess.Popen(
        [ISOKL, "sweep", *map(str, args)],
        cwd=cwd,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=prepare,
    )


def sweep(*args, cwd, **options):
    """The same, waited for: exit code, and what it said."""
    process = start(*args, cwd=cwd, **options)
    _, said = process.communicate()
    return process.returncode, said


def workers(process):
    """Ids of the worker processes of a sweep (the one that tracks resources is none)."""
    try:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        # they are the children of the threads that started them
        for task in Path(f"/proc/{process.pid}/task").iterdir():
            children += (task / "children").read_text().split()
        return [
            int(child)
            for child in set(children)
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
        ]
    except OSError:  # it has just ended
        return []


def gone(pid):
    """Whether a process has ended, within a few seconds."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z"):
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def numbers(db):
    """Everything that was found, by config hash; every config is there once, and done."""
    with sqlite3.connect(db) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    found = {}
    with Store(db, read_only=True) as store:
        for row in store.rows("select id, config_hash from attempts where state = 'done'"):
            record = store.record(row["id"])
            assert row["config_hash"] not in found
            keep = ("calibrations", "measurements", "summaries", "traces")
            found[row["config_hash"]] = {key: record[key] for key in keep}
    return found


def grid(folder, models, seeds, methods=("mean_diff", "pca")):
    file = folder / "grid.toml"
    lists = {"model": list(models), "method": list(methods), "seed": list(seeds)}
    file.write_text("".join(f"{key} = {value!r}\n" for key, value in lists.items()) + SMALL)
    return file


def test_twenty_kills_at_random_moments_lose_and_change_nothing(tmp_path):
    """About ten sweeps over one grid, of each a worker and then the whole sweep are killed; where the machine is so fast
    that a sweep ends before, the grid grows."""
    models, seeds = ("tiny-qwen", "tiny-llama"), 7
    file = grid(tmp_path, models, range(seeds))
    moments = random.Random(0)
    kills = {"worker": 0, "sweep": 0}
    orphans = []
    while sum(kills.values()) < 20:
        process = start(file, "--jobs", 2, "--quiet", cwd=tmp_path)
        time.sleep(moments.uniform(1, 4))
        if found := workers(process):
            victim = moments.choice(found)
            os.kill(victim, signal.SIGKILL)
            assert gone(victim)
            kills["worker"] += 1
        time.sleep(moments.uniform(0, 1.5))
        orphans += workers(process)
        process.kill()
        process.communicate()
        if process.returncode == -signal.SIGKILL:
            kills["sweep"] += 1
        else:
            seeds += 7
            grid(tmp_path, models, range(seeds))
    assert all(map(gone, orphans)), "workers outlive their sweep"
    assert min(kills.values()) >= 5
    code, said = sweep(file, "--jobs", 2, "--db", "undisturbed.db", cwd=tmp_path)
    assert code == 0, said
    code, said = sweep(file, "--jobs", 2, cwd=tmp_path)
    assert code == 0, said
    cells = len(models) * 2 * seeds
    assert f"{cells} of {cells} cells stored" in said
    disturbed, undisturbed = numbers(tmp_path / "isokl.db"), numbers(tmp_path / "undisturbed.db")
    assert len(undisturbed) == cells
    assert disturbed == undisturbed


def test_a_worker_that_is_killed_takes_nothing_with_it(tmp_path):
    file = grid(tmp_path, ("tiny-qwen",), range(2))
    process = start(file, cwd=tmp_path)
    first = process.stderr.readline()  # how many cells there are
    assert "4 to run" in first
    assert "[1/4]" in process.stderr.readline()
    os.kill(workers(process)[0], signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "was ended by SIGKILL: out of memory?" in said
    assert "3 of 4 cells stored, 1 not" in said
    code, said = sweep(file, cwd=tmp_path)
    assert code == 0
    assert "3 stored already, 1 to run" in said
    assert len(numbers(tmp_path / "isokl.db")) == 4


def test_plugins_that_raise_give_nan_exit_die_or_hang_fail_alone(tmp_path):
    plugins = tmp_path / "plugins"
    info = plugins / "isokl_faulty-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: isokl-faulty\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[isokl]\nfaulty = isokl_faulty\n")
    (plugins / "isokl_faulty.py").write_text(FAULTY)
    file = grid(tmp_path, ("tiny-qwen",), [0], (*FAULTS, "pca"))
    code, said = sweep(file, "--jobs", 2, cwd=tmp_path, path=plugins)
    assert code == 1
    assert "1 of 8 cells stored, 7 not" in said
    code, hung = sweep(file, "--method", "hangs", "--timeout-cell", 12, cwd=tmp_path, path=plugins)
    assert code == 1
    assert "took longer than 12 s (--timeout-cell)" in hung
    with Store(tmp_path / "isokl.db", read_only=True) as store:
        rows = store.rows("select method, state, error from runs")
    stored = {row["method"]: row["error"] for row in rows if row["state"] == "failed"}
    assert stored.keys() == {*FAULTS, "hangs"}
    for method, words in FAULTS.items():
        assert words in stored[method]
        assert words in said
    assert [row["method"] for row in rows if row["state"] == "done"] == ["pca"]
    assert "Traceback" not in said
    code, said = sweep(file, cwd=tmp_path, path=plugins)
    assert code == 1
    assert "1 stored already, 7 failed before (--retry-failed runs them again), 0 to run" in said
    process = start(file, "--retry-failed", "--method", "panics", "--json", cwd=tmp_path, path=plugins)
    out, said = process.communicate()
    assert process.returncode == 1
    assert [json.loads(line)["event"] for line in out.splitlines()] == ["cell", "sweep"]
    assert "I go to standard output" in said
    with Store(tmp_path / "isokl.db", read_only=True) as store:
        assert len(store.rows("select * from runs where method = 'panics'")) == 2


def test_a_worker_that_dies_before_its_first_cell_is_not_waited_for(tmp_path):
    file = grid(tmp_path, ("tiny-qwen",), [0])
    process = start(file, cwd=tmp_path)
    while not workers(process):
        time.sleep(0.01)
    os.kill(workers(process)[0], signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == 1
    assert "was ended by SIGKILL" in said
    assert "1 of 2 cells stored, 1 not" in said


@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_ctrl_c_or_a_polite_kill_stops_the_workers_and_says_how_to_go_on(tmp_path, number, whole_group):
    file = grid(tmp_path, ("tiny-qwen",), range(2))
    process = start(file, "--jobs", 2, cwd=tmp_path)
    process.stderr.readline()
    process.stderr.readline()  # one cell has ended
    at_work = workers(process)
    assert len(at_work) == 2
    (os.killpg if whole_group else os.kill)(process.pid, number)  # a terminal tells them all
    _, said = process.communicate()
    assert process.returncode == 130
    assert "the same command (without --force) continues from there" in said
    assert "Traceback" not in said
    assert all(map(gone, at_work))
    with Store(tmp_path / "isokl.db", read_only=True) as store:
        assert store.rows("select * from runs where state = 'running'") == []
    code, _ = sweep(file, cwd=tmp_path)
    assert code == 0
    assert len(numbers(tmp_path / "isokl.db")) == 4


def test_a_full_disk_is_said_and_gone_on_from(tmp_path):
    file = grid(tmp_path, ("tiny-qwen",), range(2))
    code, said = sweep(file, "--seed", 0, cwd=tmp_path)
    assert code == 0, said
    full = (tmp_path / "isokl.db").stat().st_size + 60_000
    code, said = sweep(file, cwd=tmp_path, limit=full)
    assert code == 1
    assert "disk is full" in said
    assert "Traceback" not in said
    assert len(numbers(tmp_path / "isokl.db")) >= 2  # what was stored can be read
    code, said = sweep(file, cwd=tmp_path)
    assert code == 0, said
    assert len(numbers(tmp_path / "isokl.db")) == 4


def test_what_another_machine_is_said_to_run_is_left_alone_until_taken_over(tmp_path):
    file = grid(tmp_path, ("tiny-qwen",), [0])
    code, _ = sweep(file, "--method", "pca", cwd=tmp_path)
    assert code == 0
    with sqlite3.connect(tmp_path / "isokl.db") as connection:
        connection.execute("update attempts set state = 'running', host = 'elsewhere', pid = 1")
    code, said = sweep(file, cwd=tmp_path)
    assert code == 1
    assert "process 1 on elsewhere is running this (attempt 1); if it is dead, --take-over" in said
    assert "1 of 2 cells stored, 1 not" in said
    code, said = sweep(file, "--take-over", cwd=tmp_path)
    assert code == 0
    assert len(numbers(tmp_path / "isokl.db")) == 2


def test_two_sweeps_over_one_grid_share_the_work(tmp_path):
    file = grid(tmp_path, ("tiny-qwen", "tiny-llama"), range(2))
    with Store(tmp_path / "isokl.db"):
        pass
    both = [start(file, cwd=tmp_path) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(numbers(tmp_path / "isokl.db")) == 8
    with Store(tmp_path / "isokl.db", read_only=True) as store:
        assert len(store.rows("select * from attempts")) == 8
        assert len(store.rows("select distinct pid from attempts")) == 2
