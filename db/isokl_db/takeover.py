"""Taking up an attempt that another process left unfinished, one process at a time."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Row, and_, select, update

from isokl_db.attempt import INTERRUPTED, Attempt, this_process
from isokl_db.connection import Database
from isokl_db.schema import attempts


def take_over(database: Database, hash: str, provenance: Mapping[str, Any] | None) -> Attempt | None:
    """The latest attempt at the config, now owned by this process; None unless it was cut short."""
    with database.reading() as connection:
        latest = (
            select(attempts).where(attempts.c.config_hash == hash).order_by(attempts.c.id.desc()).limit(1)
        )
        row = connection.execute(latest).one_or_none()
    if row is None or not _was_cut_short(row) or not _claim(database, row, provenance):
        return None
    return Attempt(database, row.id, row.config_hash)


def _claim(database: Database, row: Row[Any], provenance: Mapping[str, Any] | None) -> bool:
    """Write this process into the row, unless the row has changed since it was read."""
    host, pid = this_process()
    history = dict(row.provenance)
    if provenance is not None:
        history["resumed"] = [*history.get("resumed", []), dict(provenance)]
    unchanged = and_(*(attempts.c[name] == getattr(row, name) for name in ("id", "state", "host", "pid")))
    ours = {"state": "running", "error": None, "finished_at": None, "host": host, "pid": pid}
    with database.writing() as connection:
        claim = update(attempts).where(unchanged).values(provenance=history, **ours)
        return connection.execute(claim).rowcount == 1


def _was_cut_short(attempt: Row[Any]) -> bool:
    if attempt.state == "failed":
        return bool(attempt.error == INTERRUPTED)
    host, pid = this_process()
    return (
        attempt.state == "running"
        and attempt.host == host
        and (attempt.pid == pid or not _alive(attempt.pid))
    )


def _alive(pid: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is not a question: Windows would send Ctrl-C
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a dead process whose parent died before it may stay in the list for good, in a container for example
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] not in ("Z", "X")
    except OSError:
        return True
