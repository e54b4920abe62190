"""How a database is reached: a path or URL becomes an engine with the transactions that the store needs."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from json import dumps
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url

from isokl_db.errors import StoreError, speaking_plainly, sqlite_code


class Database:
    """One database: SQLite by path, anything SQLAlchemy knows by URL.

    On SQLite: WAL, foreign keys, and writers that take their lock when they begin (a lock asked for halfway
    could deadlock, and SQLite would then not wait at all).

    Args:
        target: path or URL.
        busy_timeout: seconds to wait for another process's lock, on SQLite.
        read_only: never write.

    Raises:
        StoreError: the database cannot be reached.
    """

    def __init__(self, target: str | Path, *, busy_timeout: float, read_only: bool) -> None:
        self.name, self.url, self.path = _locate(target)
        self.read_only = read_only
        if self.path is not None:
            _look_at(self.path, self.name, read_only)
        with speaking_plainly(self.name):
            self.engine = _engine(self.url, self.path, busy_timeout, read_only)
        self._writer = self.engine.execution_options(isokl_begin="IMMEDIATE")

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the database throughout; whatever it does is rolled back."""
        with speaking_plainly(self.name), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: all of it is stored when the block ends, none of it when the block raises."""
        with speaking_plainly(self.name), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """Like `writing`, but foreign keys are checked only when the block ends.

        SQLite alters a table by copying it and dropping the old one, and a drop would cascade to every child.
        """
        sqlite = self.url.get_backend_name() == "sqlite"
        with speaking_plainly(self.name), self._writer.connect() as connection:
            if sqlite:
                _run(connection, "PRAGMA foreign_keys = OFF")  # heard outside of transactions only
            try:
                with connection.begin():
                    yield connection
                    if sqlite and (broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all()):
                        raise StoreError(
                            f"migrating {self.name} would break {len(broken)} links; keep it as it is"
                        )
            finally:
                if sqlite:
                    _run(connection, "PRAGMA foreign_keys = ON")

    def use_wal(self) -> None:
        """Let readers and a writer work side by side; where somebody is at work, the next opening will."""
        if self.read_only or self.url.get_backend_name() != "sqlite":
            return
        with speaking_plainly(self.name), self.engine.connect() as connection:
            try:
                if _run(connection, "PRAGMA journal_mode") != ("wal",):
                    _run(connection, "PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if sqlite_code(error) != sqlite3.SQLITE_BUSY:
                    raise


def _locate(target: str | Path) -> tuple[str, URL, Path | None]:
    """What to call the database in messages, its URL, and its file where it is one."""
    if isinstance(target, str) and "://" in target:
        with speaking_plainly(target.partition("://")[0] + "://…"):
            url = make_url(target)
        file = _file_of(url)
        return url.render_as_string(hide_password=True), url, file
    path = Path(target).expanduser()
    return str(target), URL.create("sqlite", database=str(path.absolute())), path.absolute()


def _file_of(url: URL) -> Path | None:
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    assert url.database is not None
    return Path(
        unquote(url.database.removeprefix("file:")) if "uri" in url.query else url.database
    ).absolute()


def _look_at(path: Path, name: str, read_only: bool) -> None:
    """Say what SQLite would only call "unable to open database file", and say it before hours of work."""
    folder, exists = path.parent, path.exists()
    if path.is_dir():
        raise StoreError(f"{name} is a folder; give the path of a database file with --db")
    if read_only and not exists:
        raise StoreError(f"no database at {name}; run `isokl run …` first or give --db")
    if not folder.is_dir():
        raise StoreError(f"the folder {folder} does not exist; create it or use another --db")
    if exists and not os.access(path, os.R_OK):
        raise StoreError(
            f"{name} may not be read (permission denied); change its permissions or use another --db"
        )
    if not read_only and not os.access(folder, os.W_OK):
        raise StoreError(
            f"the folder {folder} is read-only (permission denied); make it writable or use another --db"
        )
    if not read_only and exists and not os.access(path, os.W_OK):
        raise StoreError(f"{name} is read-only (permission denied); make it writable or use another --db")


def _engine(url: URL, path: Path | None, busy_timeout: float, read_only: bool) -> Engine:
    options: dict[str, Any] = {"json_serializer": partial(dumps, allow_nan=False, ensure_ascii=False)}
    if url.get_backend_name() != "sqlite":
        return create_engine(url, **options)
    if path is not None and not url.query:
        url = url.set(database=f"file:{quote(str(path))}", query=_file_options(path, read_only))
    engine = create_engine(url, connect_args={"timeout": busy_timeout}, **options)
    _set_up_sqlite(engine, read_only)
    return engine


def _file_options(path: Path, read_only: bool) -> dict[str, str]:
    """In a folder that cannot be written, a WAL database is read by promising that nobody writes it."""
    if not read_only:
        return {"uri": "true", "mode": "rwc"}
    alone = not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists()
    return {"uri": "true", "mode": "ro", "immutable": "1"} if alone else {"uri": "true", "mode": "rw"}


def _run(connection: Connection, pragma: str) -> Any:
    """Run a PRAGMA that must not be inside a transaction, which SQLAlchemy would begin."""
    driver: Any = connection.connection.driver_connection
    return driver.execute(pragma).fetchone()


def _set_up_sqlite(engine: Engine, read_only: bool) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing on its own; `begin` below does
        connection.execute("PRAGMA foreign_keys = ON")
        if read_only:
            connection.execute("PRAGMA query_only = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(
            f"BEGIN {connection.get_execution_options().get('isokl_begin', 'DEFERRED')}"
        )
