"""`isokl db`: every command, through click."""

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from isokl_bench.cli.db import db
from isokl_db import Measurement, Store, StoreError

Run = Callable[..., Result]
STEERING = b"\x08\x00safetensors"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with one run that is done, and one that failed."""
    path = tmp_path / "isokl.db"
    with Store(path) as store:
        config = {"model": "tiny-qwen", "method": "pca", "seed": 1, "window": 20}
        attempt = store.begin(config, prompts={"holdout": ["Tell me, please."]}, provenance={"device": "cpu"})
        row = Measurement(sign=1, metric="base_nll", quantity="nll", alpha=1.0, prompt=0, value=2.5)
        attempt.commit_phase("fit", 1.0, steering=STEERING, measurements=[row])
        attempt.done()
        store.begin(config, prompts={}, provenance={}).fail("NaN at layer 3")
    return path


@pytest.fixture
def isokl_db(path: Path) -> Run:
    def run(*arguments: str, database: str | None = str(path)) -> Result:
        return CliRunner(env={"ISOKL_DB": database}).invoke(db, arguments, catch_exceptions=False)

    return run


def test_every_command_has_help_and_says_how_to_choose_the_database(isokl_db: Run) -> None:
    assert set(db.commands) == {"path", "tables", "query", "export", "merge"}
    for name, command in db.commands.items():
        assert command.help
        shown = isokl_db(name, "--help").output
        assert "--db PATH" in shown
        assert "ISOKL_DB" in shown


def test_path(isokl_db: Run, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isokl_db("path").output == f"{path}\n"
    monkeypatch.chdir(path.parent)
    assert isokl_db("path", database=None).output == f"{path}\n"
    assert isokl_db("path", "--db", "isokl.db", database="/elsewhere").output == f"{path}\n"


def test_tables(isokl_db: Run) -> None:
    lines = {line.split()[0]: line.split() for line in isokl_db("tables").output.splitlines()}
    assert lines["name"] == ["name", "kind", "rows", "columns"]
    assert lines["attempts"][1:4] == ["table", "2", "id,"]
    assert lines["runs"][1:3] == ["view", "attempt_id,"]
    assert "sqlite_sequence" not in lines


def test_query_as_table(isokl_db: Run) -> None:
    shown = isokl_db("query", "select attempt_id, state, error, '[bold]' markup from runs order by 1").output
    assert [line.split() for line in shown.splitlines()] == [
        ["attempt_id", "state", "error", "markup"],
        ["1", "done", "[bold]"],
        ["2", "failed", "NaN", "at", "layer", "3", "[bold]"],
    ]


def test_query_as_csv(isokl_db: Run) -> None:
    shown = isokl_db("query", "--format", "csv", "select text, 1.5 x, null y, x'0102' z from prompts").output
    assert list(csv.reader(io.StringIO(shown))) == [
        ["text", "x", "y", "z"],
        ["Tell me, please.", "1.5", "", "<2 bytes>"],
    ]
    assert isokl_db("query", "--format", "csv", "select seed from runs where seed = 9").output == "seed\n"


def test_query_as_json(isokl_db: Run) -> None:
    shown = isokl_db("query", "--format", "json", "select 'ü' a, 1.5 b, null c, x'0102' d, 9e999 e").output
    assert json.loads(shown) == [{"a": "ü", "b": 1.5, "c": None, "d": "<2 bytes>", "e": "inf"}]
    assert "ü" in shown


@pytest.mark.parametrize("sql", ["delete from attempts", "drop view runs", "create table t (a)", "commit"])
def test_a_query_never_writes(isokl_db: Run, path: Path, sql: str) -> None:
    before = path.read_bytes()
    with pytest.raises(StoreError, match="a query only reads"):
        isokl_db("query", sql)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["isokl.db"]


@pytest.mark.parametrize("name", ["1", "hash"])
def test_export_to_stdout(isokl_db: Run, path: Path, name: str) -> None:
    with Store(path) as store:
        wanted = store.record(1)
    run = wanted["hash"][:10] if name == "hash" else name
    assert json.loads(isokl_db("export", run).output) == wanted


def test_export_to_a_file_with_its_steering(isokl_db: Run, path: Path, tmp_path: Path) -> None:
    output = tmp_path / "run.json"
    shown = isokl_db("export", "1", "--output", str(output)).output
    assert shown == f"wrote {output} and {tmp_path / 'run.safetensors'}\n"
    assert (tmp_path / "run.safetensors").read_bytes() == STEERING
    with Store(path) as store:
        assert json.loads(output.read_text(encoding="utf-8")) == store.record(1)


def test_export_without_a_steering_says_so_by_its_silence(isokl_db: Run, tmp_path: Path) -> None:
    output = tmp_path / "run.json"
    assert isokl_db("export", "2", "-o", str(output)).output == f"wrote {output}\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["isokl.db", "run.json"]


def test_export_where_nothing_can_be_written(isokl_db: Run, tmp_path: Path) -> None:
    result = isokl_db("export", "1", "-o", str(tmp_path / "no" / "run.json"))
    assert result.exit_code == 1
    assert "No such file or directory; give another --output" in result.output
    result = isokl_db("export", "1", "-o", str(tmp_path / "run.safetensors"))
    assert result.exit_code == 2
    assert "name it .json" in result.output


def test_an_unknown_run(isokl_db: Run) -> None:
    with pytest.raises(StoreError, match="no run 'nope' in"):
        isokl_db("export", "nope")


@pytest.mark.parametrize("command", [["path"], ["tables"], ["query", "select 1"], ["export", "1"]])
def test_a_missing_database_is_not_created(isokl_db: Run, tmp_path: Path, command: list[str]) -> None:
    missing = tmp_path / "missing.db"
    with pytest.raises(
        StoreError, match=r"no database at .*missing\.db; run `isokl run …` first or give --db"
    ):
        isokl_db(*command, "--db", str(missing))
    assert not missing.exists()


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from isokl_bench.cli.db import db\n"
        "heavy = {'torch', 'pandas', 'sqlalchemy', 'sqlite_utils', 'rich', 'altair'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or None)"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
