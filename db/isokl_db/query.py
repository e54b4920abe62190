"""Asking a database anything, and changing nothing."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, CursorResult, text
from sqlalchemy.exc import DBAPIError

from isokl_db.connection import Database
from isokl_db.errors import StoreError, sqlite_code

_READING = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE)
_PRAGMAS = ("table_info", "table_list", "index_list", "index_info", "foreign_key_list", "integrity_check")


class Table(NamedTuple):
    """The answer to a query: names of the columns, and the rows."""

    columns: list[str]
    rows: list[tuple[Any, ...]]

    def as_dicts(self) -> list[dict[str, Any]]:
        """Each row by column name.

        Raises:
            StoreError: two columns share a name, so one of them would be lost.
        """
        if twice := sorted({name for name in self.columns if self.columns.count(name) > 1}):
            names = ", ".join(twice)
            raise StoreError(f"the query has several columns named {names}; tell them apart with AS")
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def run_query(database: Database, sql: str, params: Mapping[str, Any]) -> Table:
    """The answer to one statement; see `isokl_db.Store.query`."""
    with database.reading() as connection:
        try:
            with _only_reading(connection):
                result = _execute(connection, sql, params)
                if not result.returns_rows:
                    raise StoreError(
                        f"a query only reads, and this one gives nothing to read: {sql!r}; give a SELECT"
                    )
                rows = [tuple(row) for part in result.partitions(1000) for row in part]
                return Table(list(result.keys()), rows)
        except DBAPIError as error:
            if sqlite_code(error) != sqlite3.SQLITE_AUTH:
                raise
            fix = "give a SELECT; nothing was changed"
            raise StoreError(f"a query only reads, and this one does more: {sql!r}; {fix}") from error


def _execute(connection: Connection, sql: str, params: Mapping[str, Any]) -> CursorResult[Any]:
    """SQLite knows `:name` itself, and unlike SQLAlchemy's text() also what is no placeholder but quoted."""
    if connection.dialect.name == "sqlite" or not params:
        return connection.exec_driver_sql(sql, dict(params))
    return connection.execute(text(sql), params)


@contextmanager
def _only_reading(connection: Connection) -> Iterator[None]:
    """Let SQLite compile nothing that does more than read; other databases roll back in the end."""
    if connection.dialect.name != "sqlite":
        yield
        return
    connection.begin()  # before the authorizer, which would refuse it
    driver: Any = connection.connection.driver_connection
    driver.set_authorizer(_authorize)
    try:
        yield
    finally:
        driver.set_authorizer(None)


def _authorize(action: int, name: str | None, *_: str | None) -> int:
    allowed = action in _READING or (action == sqlite3.SQLITE_PRAGMA and name in _PRAGMAS)
    return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY
