"""Opening upgrades a database, keeps a copy of the old one, and breaks nothing when it cannot."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from shutil import copytree, ignore_patterns
from subprocess import Popen
from typing import Any

import pytest
from sqlalchemy import update

from isokl_db import REVISION, Calibration, Store, StoreError, migrate, schema
from isokl_db.views import VIEWS

# It copies and drops `configs`: with foreign keys on, the drop would take every attempt with it.
FOLLOWING = f"{int(REVISION) + 1:04}"
NEXT = f"""
from alembic import op
from sqlalchemy import Column, Integer
revision, down_revision = "{FOLLOWING}", "{REVISION}"
def upgrade():
    with op.batch_alter_table("configs", recreate="always") as table:
        table.add_column(Column("extra", Integer))
"""
Config = Callable[..., dict[str, Any]]


@pytest.fixture
def tomorrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Turn the package into a later version of itself, with one migration more."""

    def upgrade(script: str = NEXT) -> None:
        folder = tmp_path / "migrations"
        copytree(migrate.MIGRATIONS, folder, ignore=ignore_patterns("__pycache__"))
        (folder / "versions" / f"r{FOLLOWING}_next.py").write_text(script)
        monkeypatch.setattr(migrate, "MIGRATIONS", folder)
        monkeypatch.setattr(schema, "REVISION", FOLLOWING)

    return upgrade


@pytest.fixture
def hash(path: Path, config: Config) -> str:
    """The config of the one run in a database of today's schema."""
    with Store(path) as store:
        attempt = store.begin(config(), prompts={"fit": ["a"]}, provenance={})
        attempt.done()
        return attempt.hash


@pytest.fixture(params=["0001", "0002"])
def older(
    request: pytest.FixtureRequest,
    path: Path,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[str, str]:
    """An older revision, and the config of the one run in a database that the package wrote when it was the
    newest."""
    folder, newest = tmp_path / "first", f"r{request.param}~"
    later = [f"{file.stem}*" for file in migrate.MIGRATIONS.glob("versions/r*.py") if file.stem > newest]
    copytree(migrate.MIGRATIONS, folder, ignore=ignore_patterns("__pycache__", *later))
    with monkeypatch.context() as then:
        then.setattr(migrate, "MIGRATIONS", folder)
        then.setattr(schema, "REVISION", request.param)
        with Store(path) as store:
            attempt = store.begin(config(), prompts={"fit": ["a"]}, provenance={})
            attempt.done()
    with closing(sqlite3.connect(path)) as connection, connection:
        for id, (sign, outcome) in enumerate([(1, "jump"), (-1, "converged")], 1):
            connection.execute(CALIBRATED, (id, sign, outcome, sign * 3.5))
            connection.executemany(TRIED, [(id, sign * dose, dose / 4) for dose in (2.0, 4.0)])
        if request.param == "0001":
            with pytest.raises(sqlite3.IntegrityError, match="ck_calibrations_outcome"):
                connection.execute(CALIBRATED, (3, 1, "no_dose", 1.0))
    return request.param, attempt.hash


# What older versions wrote, in their columns; today's would write columns that those had not.
CALIBRATED = """
INSERT INTO calibrations (id, attempt_id, sign, outcome, coefficient, stat, target, tolerance, value, n_prompts, rounds)
VALUES (?, 1, ?, ?, ?, 'kl_p95', 1.0, 0.05, 0.9, 4, 1)
"""
TRIED = (
    "INSERT INTO evaluations (calibration_id, round, dose, value, tokens, complete) VALUES (?, 1, ?, ?, 9, 1)"
)


NEW = Calibration(
    sign=1, outcome="no_dose", coefficient=1.0, value=0.9, pool=311, slope=2.1, stat="kl_p95", target=1.0,
    tolerance=0.05, n_prompts=4, rounds=0,
)  # fmt: skip


def columns(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[1] for row in connection.execute("PRAGMA table_info(configs)")]


def backups(path: Path) -> list[Path]:
    return sorted(path.parent.glob("isokl.db.backup-*"))


def test_a_new_file_gets_the_schema_and_no_backup(path: Path) -> None:
    with Store(path) as store:
        assert store.rows("select version_num from alembic_version") == [{"version_num": REVISION}]
        assert [row["name"] for row in store.rows("select name from sqlite_master where type = 'view'")] == [
            *VIEWS
        ]
    assert [file.name for file in path.parent.iterdir()] == ["isokl.db"]


def test_opening_again_changes_nothing(path: Path, hash: str) -> None:
    before = path.read_bytes()
    with Store(path) as store:
        assert store.latest(hash) == 1
    assert path.read_bytes() == before
    assert backups(path) == []


@pytest.mark.parametrize("read_only", [False, True])
def test_an_older_file_is_copied_then_upgraded(
    path: Path, hash: str, tomorrow: Callable[..., None], read_only: bool
) -> None:
    tomorrow()
    with Store(path, read_only=read_only) as store:
        assert store.latest(hash) == 1
        assert [row["hash"] for row in store.rows("select * from runs")] == [hash]
    assert "extra" in columns(path)
    (backup,) = backups(path)
    assert backup.name.startswith(f"isokl.db.backup-{REVISION}-")
    assert "extra" not in columns(backup)
    with closing(sqlite3.connect(backup)) as copy:
        assert copy.execute("SELECT state, hash FROM runs").fetchall() == [("done", hash)]


def test_a_store_of_an_older_revision_keeps_its_data_and_takes_what_is_new(
    path: Path, older: tuple[str, str]
) -> None:
    revision, hash = older
    tables = ("configs", "attempts", "phases", "prompts", "calibrations", "evaluations")
    with closing(sqlite3.connect(path)) as connection:
        before = {name: connection.execute(f"SELECT * FROM {name}").fetchall() for name in tables}
    assert len(before["evaluations"]) == 4
    with Store(path) as store:
        assert store.latest(hash) == 1
        assert store.rows("SELECT outcome, pool, slope FROM results ORDER BY sign") == [
            {"outcome": "converged", "pool": None, "slope": None},
            {"outcome": "jump", "pool": None, "slope": None},
        ]
        assert [len(found["evaluations"]) for found in store.record(1)["calibrations"]] == [2, 2]
        later = store.begin({"method": "prompt"}, prompts={}, provenance={})
        later.commit_phase("calibrate +1", 1.0, calibrations=[NEW])
        later.done()
        found = store.rows("SELECT outcome, pool, slope FROM results WHERE method = 'prompt'")
        assert found == [{"outcome": "no_dose", "pool": 311, "slope": 2.1}]
        for wrong in (
            {"outcome": "perhaps"},
            {"sign": 2},
            {"low": 1e309},
            {"slope": 1e309},
            {"attempt_id": 99},
        ):
            with pytest.raises(StoreError), store._database.writing() as connection:
                connection.execute(
                    update(schema.calibrations).where(schema.calibrations.c.id == 3).values(**wrong)
                )
    (backup,) = backups(path)
    assert backup.name.startswith(f"isokl.db.backup-{revision}-")
    for file in (path, backup):
        with closing(sqlite3.connect(file)) as connection:
            for name in tables:
                found = connection.execute(f"SELECT * FROM {name}").fetchall()
                width = len(before[name][0]) if before[name] else None
                assert [row[:width] for row in found[: len(before[name])]] == before[name]
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM attempts WHERE id = 1")
        assert connection.execute("SELECT COUNT(*) FROM evaluations").fetchone() == (0,)


def test_a_migration_that_fails_changes_nothing(path: Path, hash: str, tomorrow: Callable[..., None]) -> None:
    tomorrow(NEXT + '    op.execute("DELETE FROM attempts")\n    op.execute("SELECT nonsense")\n')
    with pytest.raises(StoreError, match=r"SQL failed in .*nonsense"):
        Store(path)
    assert "extra" not in columns(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT state, hash FROM runs").fetchall() == [("done", hash)]
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]


def test_a_migration_that_breaks_links_changes_nothing(
    path: Path, hash: str, tomorrow: Callable[..., None]
) -> None:
    tomorrow(NEXT + '    op.execute("DELETE FROM configs")\n')
    with pytest.raises(StoreError, match=r"would break 2 links"):
        Store(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT state, hash FROM runs").fetchall() == [("done", hash)]


def test_without_a_backup_there_is_no_upgrade(
    path: Path, hash: str, tomorrow: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tomorrow()
    connect = sqlite3.connect

    def full(file: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(file, **options)
        if "backup" in str(file):
            connection.execute("PRAGMA max_page_count = 1")
        return connection

    monkeypatch.setattr("isokl_db.migrate.sqlite3.connect", full)
    with pytest.raises(StoreError, match=rf"backup-{REVISION}-\S+ has no room to grow: the disk is full"):
        Store(path)
    monkeypatch.undo()
    assert backups(path) == []
    assert "extra" not in columns(path)


def test_a_newer_file_names_both_revisions_and_stays_as_it_is(path: Path, hash: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '0999'")
    before = path.read_bytes()
    for read_only in (False, True):
        with pytest.raises(
            StoreError, match=rf"schema 0999, newer than {REVISION}.*upgrade isokl-bench or use .*--db"
        ):
            Store(path, read_only=read_only)
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"something else \(its tables: recipes\); use another --db"):
        Store(path)
    assert path.read_bytes() == before


def test_processes_that_open_a_new_file_at_once_all_succeed(
    spawn: Callable[..., "Popen[str]"], all_at_once: Callable[[list["Popen[str]"]], None]
) -> None:
    script = """
from isokl_db import Store
print("ready", flush=True); sys.stdin.readline()
with Store(sys.argv[1]) as store:
    store.begin({"seed": int(sys.argv[2])}, prompts={}, provenance={}).done()
"""
    processes = [spawn(script, str(seed)) for seed in range(4)]
    all_at_once(processes)
    assert [process.communicate()[1] for process in processes] == [""] * 4
