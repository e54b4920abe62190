"""The tables: what they guarantee by themselves, and that migrations and models say the same."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, delete, insert, select, text
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.schema import CreateTable

from isokl_db import REVISION, Attempt, Measurement, Store, StoreError, schema
from isokl_db.migrate import MIGRATIONS
from isokl_db.views import VIEWS, create_views

# A changed view reaches nobody's database without a new revision: bump schema.REVISION with this.
VIEWS_OF_REVISION = {
    "0001": "6b0ba7cf7547071100e2b425f26b6c8fa532930f1eb2abecc14bf14eda295ece",
    "0002": "6b0ba7cf7547071100e2b425f26b6c8fa532930f1eb2abecc14bf14eda295ece",
    "0003": "31599c732031ca71552926004e0b1c9a2d2f71f649955089183e679e51d414a5",
}


def test_the_migrations_end_in_the_models(store: Store) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []


def test_the_migrations_write_the_very_sql_of_the_models(store: Store) -> None:
    fresh = create_engine("sqlite://")
    with fresh.begin() as connection:
        schema.metadata.create_all(connection)
        create_views(connection)
        wanted = _sql(connection)
    with store.engine.connect() as connection:
        assert _sql(connection) == wanted
    fresh.dispose()


def _sql(connection: Any) -> dict[str, list[str]]:
    """Name and SQL of everything in a SQLite database; constraints in any order, and no quotes (renaming adds
    some)."""
    found = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    lines = {
        name: sorted(line.strip(" ,\t") for line in sql.replace('"', "").splitlines()) for name, sql in found
    }
    return {name: sql for name, sql in lines.items() if name != "alembic_version"}


def test_the_newest_migration_is_the_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_views_change_with_the_revision_only() -> None:
    assert VIEWS_OF_REVISION[REVISION] == sha256(repr(VIEWS).encode()).hexdigest()


@pytest.mark.parametrize("dialect", [postgresql.dialect, mysql.dialect])
def test_other_databases_have_these_types(dialect: Any) -> None:
    for table in schema.metadata.sorted_tables:
        assert table.name in str(CreateTable(table).compile(dialect=dialect()))


def test_the_store_proves_that_splits_are_disjoint(begin: Callable[..., Attempt], store: Store) -> None:
    hash = begin().hash
    digest = sha256(b"a").hexdigest()
    row = {"config_hash": hash, "split": "holdout", "position": 9, "sha256": digest, "text": "a"}
    with (
        pytest.raises(StoreError, match=r"refused a row.*UNIQUE.*sha256"),
        store._database.writing() as connection,
    ):
        connection.execute(insert(schema.prompts).values(row))


def test_unknown_parents_are_refused(store: Store) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY"), store._database.writing() as connection:
        connection.execute(insert(schema.steerings).values(attempt_id=99, data=b"x", nbytes=1))


def test_a_deleted_config_takes_everything_with_it(begin: Callable[..., Attempt], store: Store) -> None:
    from isokl_db import Calibration, Evaluation, Summary, Trace

    attempt = begin()
    attempt.commit_phase(
        "all",
        1.0,
        steering=b"x",
        calibrations=[
            Calibration(
                sign=1,
                stat="kl_p95",
                target=1.0,
                tolerance=0.05,
                outcome="jump",
                coefficient=1.0,
                value=0.9,
                n_prompts=4,
                rounds=1,
                evaluations=[Evaluation(round=1, dose=1.0, value=1.0, tokens=80, complete=True)],
            )
        ],
        measurements=[Measurement(sign=1, metric="m", quantity="q", alpha=1.0, prompt=0, value=1.0)],
        summaries=[Summary(sign=1, metric="m", quantity="q", alpha=1.0, n=1, mean=1.0)],
        traces=[Trace(sign=1, alpha=1.0, prompt=0, sampled=False, text="", tokens=[], kl=[])],
    )
    with store.engine.connect() as connection:
        assert all(connection.execute(select(table)).first() for table in schema.metadata.sorted_tables)
    with store._database.writing() as connection:
        connection.execute(delete(schema.configs))
    with store.engine.connect() as connection:
        assert not any(connection.execute(select(table)).first() for table in schema.metadata.sorted_tables)


def test_sqlite_is_set_up_for_several_processes(store: Store, path: Path) -> None:
    with store.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 5000
    with Store(path) as patient, patient.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 30_000
