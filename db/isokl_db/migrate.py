"""Bringing a database to the schema of this version, whichever it had.

A new migration is a file in `migrations/versions/` with the next revision id, and that id in
`schema.REVISION`. It runs in one transaction together with the views; a SQLite file is copied first, and that
copy is the only way back.
"""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect

from isokl_db import schema
from isokl_db.connection import Database
from isokl_db.errors import StoreError, speaking_plainly
from isokl_db.views import create_views, drop_views

if TYPE_CHECKING:
    from alembic.config import Config

MIGRATIONS = Path(__file__).parent / "migrations"


def is_current(database: Database) -> bool:
    """Whether the database has the schema of this version.

    Raises:
        StoreError: it is no store at all.
    """
    with database.reading() as connection:
        return _revision(connection, database.name) == schema.REVISION


def upgrade(database: Database) -> None:
    """Migrate to the schema of this version, after a backup copy; two processes at once migrate once.

    Raises:
        StoreError: the schema is newer, or the migration fails; the database is left as it was.
    """
    with database.migrating() as connection:
        revision = _revision(connection, database.name)
        if revision == schema.REVISION:
            return
        config = _alembic(connection)
        if revision is not None:
            _refuse_newer(config, revision, database.name)
            _back_up(database, revision)
        _migrate(config, connection)


def _revision(connection: Connection, name: str) -> str | None:
    """The schema's revision, None for an empty database."""
    tables = inspect(connection).get_table_names()
    if not tables:
        return None
    if not {"alembic_version", "configs", "attempts"} <= set(tables):
        raise StoreError(
            f"{name} is a database of something else (its tables: {', '.join(tables)}); use another --db"
        )
    return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())


def _alembic(connection: Connection) -> "Config":
    from alembic.config import Config  # imported here: a database of today's schema need not wait for it

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _refuse_newer(config: "Config", revision: str, name: str) -> None:
    from alembic.script import ScriptDirectory

    if revision not in {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}:
        raise StoreError(
            f"{name} has schema {revision}, newer than {schema.REVISION}, the newest known here; "
            "upgrade isokl-bench or use another --db"
        )


def _back_up(database: Database, revision: str) -> None:
    """Copy a SQLite file to `<file>.backup-<revision>-<UTC time>`; other databases have their own ways."""
    if database.path is None:
        return
    now = datetime.now(UTC)
    copy = database.path.with_name(f"{database.path.name}.backup-{revision}-{now:%Y%m%dT%H%M%SZ}")
    try:
        with (
            speaking_plainly(str(copy)),
            closing(sqlite3.connect(copy)) as target,
            closing(sqlite3.connect(database.path)) as source,
        ):
            source.backup(target)
    except BaseException:
        copy.unlink(missing_ok=True)
        raise


def _migrate(config: "Config", connection: Connection) -> None:
    from alembic import command

    drop_views(connection)
    command.upgrade(config, "head")
    create_views(connection)
