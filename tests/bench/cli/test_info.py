"""`isokl info`, `isokl completion` and `python -m isokl_bench`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner

from isokl_bench.cli import COMMANDS, cli, invoke
from isokl_bench.cli.completion import SHELLS, VARIABLE
from isokl_db import REVISION, Store
from tests.scratch import ROOT, environment

PATHS = os.pathsep.join(str(ROOT / folder) for folder in ("", "plugins", "registry", "db"))


def module(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """`python -m isokl_bench ARGS`, of this checkout."""
    command = [sys.executable, "-m", "isokl_bench", *args]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment() | {"PYTHONPATH": PATHS} | env
    )


@pytest.fixture
def info(tmp_path, monkeypatch):
    """What `isokl info --json` tells, in an empty folder with an empty cache folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOKL_CACHE", str(tmp_path / "cache"))

    def run(*args: str):
        done = CliRunner().invoke(cli, ["info", "--json", *args], catch_exceptions=False)
        assert done.exit_code == 0
        return json.loads(done.output)

    return run


def test_a_first_look_tells_what_there_is_and_creates_nothing(info, tmp_path):
    found = info()
    assert found["isokl-bench"] == version("isokl-bench")
    assert found["torch"] == version("torch")
    assert found["python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}.")
    assert found["machine"]["cores"] >= 1
    assert found["machine"]["bytes"] > 1e9
    assert found["plugins"]["failed"] == []
    assert sum(found["plugins"]["found"].values()) > 30
    assert found["cache"] == {"folder": str(tmp_path / "cache" / "models"), "models": 0, "bytes": 0}
    assert found["database"]["error"].startswith("no database at isokl.db")
    assert list(tmp_path.iterdir()) == []


def test_a_database_is_counted_and_left_as_it_was(info, tmp_path):
    with Store(tmp_path / "isokl.db") as store:
        for seed in (0, 1):
            store.begin({"model": "m", "method": "pca", "seed": seed}, prompts={}, provenance={}).done()
        store.begin({"model": "m", "method": "pca", "seed": 0}, prompts={}, provenance={}).fail("by hand")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert info()["database"] == {
        "name": str(tmp_path / "isokl.db"),
        "schema": REVISION,
        "runs": 2,
        "attempts": 3,
    }
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_an_old_schema_is_told_and_not_migrated(info, tmp_path):
    with Store(tmp_path / "isokl.db") as store, store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    assert info()["database"]["schema"] == "0001"
    assert info()["database"]["schema"] == "0001"


def test_a_file_that_is_no_database_is_said_to_be_none(info, tmp_path):
    (tmp_path / "isokl.db").write_text("not a database at all, " * 100)
    assert info()["database"] == {"error": "isokl.db is not a SQLite database; use another --db"}


def test_a_broken_part_keeps_nothing_else_from_being_told(info, tmp_path, monkeypatch, capsys):
    def broken() -> int:
        raise RuntimeError("the driver\nis older than the library")

    monkeypatch.setattr(torch.cuda, "device_count", broken)
    found = info()
    assert found["gpus"] == {"error": "RuntimeError: the driver is older than the library"}
    assert found["torch"] == version("torch")
    assert invoke(["info"]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["gpus"] == "not known (RuntimeError: the driver is older than the library)"
    assert lines["cache"] == f"{tmp_path / 'cache' / 'models'}: 0 models, 0.00 GB"


def test_gpus_are_told_with_their_memory(info, monkeypatch):
    card = SimpleNamespace(name="H100", total_memory=85_000_000_000)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: card)
    assert info()["gpus"][:2] == [
        {"device": f"cuda:{index}", "name": "H100", "bytes": 85_000_000_000} for index in (0, 1)
    ]


def test_a_plugin_that_was_left_out_is_told(tmp_path):
    (tmp_path / "bad-1.0.dist-info").mkdir()
    (tmp_path / "bad-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: bad\nVersion: 1.0\n"
    )
    (tmp_path / "bad-1.0.dist-info" / "entry_points.txt").write_text("[isokl]\nbad = no_such_module\n")
    done = module("info", PYTHONPATH=f"{PATHS}{os.pathsep}{tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "plugin 'bad' (bad 1.0) is left out: " in done.stdout


def test_the_package_runs_as_the_command_does():
    done = module("--version")
    assert (done.returncode, done.stdout) == (0, f"isokl, version {version('isokl-bench')}\n")
    assert module("no-such-command").returncode == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_a_completion_script_asks_isokl(shell):
    script = CliRunner().invoke(cli, ["completion", shell], catch_exceptions=False).output
    assert f"{VARIABLE}={shell}_complete" in script


def test_an_unknown_shell_is_refused(capsys):
    assert invoke(["completion", "tcsh"]) == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err


def test_commands_and_options_complete(tmp_path):
    """As bash has it: its script is read, TAB is pressed, and what it offers is looked at."""
    script = CliRunner().invoke(cli, ["completion", "bash"], catch_exceptions=False).output
    isokl = tmp_path / "isokl"
    isokl.write_text(f'#!/bin/sh\nexec {sys.executable} -m isokl_bench "$@"\n')
    isokl.chmod(0o755)

    def offered(*words: str) -> list[str]:
        press = f"COMP_WORDS=({' '.join(words)} ''); COMP_CWORD={len(words)}; _isokl_completion {isokl}"
        code = f'{script}\n{press}\nprintf "%s\\n" "${{COMPREPLY[@]}}"'
        bash = [str(shutil.which("bash")), "--norc", "-c", code]
        done = subprocess.run(bash, capture_output=True, text=True, env=environment() | {"PYTHONPATH": PATHS})
        return done.stdout.split()

    assert offered("isokl") == list(COMMANDS)
    assert offered("isokl", "completion") == list(SHELLS)
