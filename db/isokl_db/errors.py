"""Every way a database can fail, said in one line: the thing, the cause, the fix."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import ArgumentError, IntegrityError, NoSuchModuleError, SQLAlchemyError, StatementError

_KEPT = "everything stored before is kept"

# SQLite's primary result codes, https://sqlite.org/rescode.html
_CAUSES = {
    sqlite3.SQLITE_BUSY: "is locked by another process; wait for it or use another --db",
    sqlite3.SQLITE_LOCKED: "is locked by another connection; wait for it or use another --db",
    sqlite3.SQLITE_READONLY: "is read-only; make the file and its folder writable or use another --db",
    sqlite3.SQLITE_PERM: "may not be opened (permission denied); change its permissions or use another --db",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that the file and its folder exist and may be written, "
    "or use another --db",
    sqlite3.SQLITE_CORRUPT: "is damaged; restore a backup (isokl.db.backup-*), recover it with "
    "`sqlite3 FILE .recover`, or use another --db",
    sqlite3.SQLITE_NOTADB: "is not a SQLite database; use another --db",
    sqlite3.SQLITE_FULL: f"has no room to grow: the disk is full; free some space and run again, {_KEPT}",
    sqlite3.SQLITE_IOERR: "cannot be read or written: the disk is full, over a file size limit, or failing; "
    f"free some space and run again, {_KEPT}",
}


class StoreError(Exception):
    """What went wrong with the store, in one line that names the thing, the cause and the fix."""


@contextmanager
def speaking_plainly(name: str) -> Iterator[None]:
    """Turn what SQLAlchemy and SQLite raise in the block into a `StoreError` about `name`."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, sqlite3.Warning, ImportError) as error:
        raise StoreError(_explanation(error, name)) from error


def sqlite_code(error: BaseException) -> int | None:
    """SQLite's primary result code behind `error`, or None where SQLite had no part in it."""
    cause = error.orig if isinstance(error, StatementError) else error
    code = getattr(cause, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _explanation(error: BaseException, name: str) -> str:
    code = sqlite_code(error)
    cause = error.orig if isinstance(error, StatementError) and error.orig is not None else error
    text = " ".join(str(cause).split())
    if code in _CAUSES:
        return f"{name} {_CAUSES[code]}"
    if code == sqlite3.SQLITE_ERROR:
        return f"SQL failed in {name}: {text}; `isokl db tables` lists its tables and columns"
    if isinstance(error, IntegrityError):
        return f"{name} refused a row, and with it the whole transaction: {text}; correct the row"
    if isinstance(error, NoSuchModuleError | ArgumentError):
        return (
            f"{name} is not a URL that SQLAlchemy knows: {text}; give a path or a URL like sqlite:///isokl.db"
        )
    if isinstance(error, ImportError):
        return (
            f"the driver for {name} is missing: {text}; install it with pip or give the path of a SQLite file"
        )
    return f"{name} failed: {text}; check the database or use another --db"
