"""Taking up an attempt that another process left unfinished, one process at a time."""

import math
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Row, and_, select, update

from isokl_db.attempt import INTERRUPTED, Attempt, this_process, utc_now
from isokl_db.connection import Database
from isokl_db.schema import attempts

CLOCKS = 2.0  # seconds that the clock of the processes and that of the attempts may lie apart


def take_over(database: Database, hash: str, provenance: Mapping[str, Any] | None) -> Attempt | None:
    """The latest attempt at the config, now owned by this process, or None; see
    `isokl_db.Store.resumable`."""
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
        history["resumed"] = [*history.get("resumed", []), {**provenance, "at": utc_now()}]
    unchanged = and_(*(attempts.c[name] == getattr(row, name) for name in ("id", "state", "host", "pid")))
    ours = {"state": "running", "error": None, "finished_at": None, "host": host, "pid": pid}
    with database.writing() as connection:
        claim = update(attempts).where(unchanged).values(provenance=history, **ours)
        return connection.execute(claim).rowcount == 1


def _was_cut_short(attempt: Row[Any]) -> bool:
    if attempt.state == "failed":
        return bool(attempt.error == INTERRUPTED)
    ours = (attempt.host, attempt.pid) == this_process()
    return attempt.state == "running" and (ours or not may_run(attempt))


def may_run(attempt: Row[Any]) -> bool:
    """Whether the process of a running attempt may be alive: on another host nobody can tell, here it must
    still be there, and have begun before it took the attempt (else the system has given its number to
    another)."""
    host, _ = this_process()
    # On other systems signal 0 is no question: Windows would send Ctrl-C.
    if attempt.host != host or os.name != "posix":
        return True
    try:
        os.kill(attempt.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    taken = attempt.provenance.get("resumed", [{}])[-1].get("at", attempt.started_at)
    try:
        return _began(attempt.pid) <= datetime.fromisoformat(taken).timestamp() + CLOCKS
    except (OSError, ValueError):  # no /proc, or not to be read
        return True


def _began(pid: int) -> float:
    """When a process began, in seconds since 1970; infinity for one that is dead, but still in the list
    because nobody has asked how it ended (in a container, for example). Source: proc(5)."""
    state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    if state in ("Z", "X"):
        return math.inf
    booted = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    return float(booted.split()[1]) + float(fields[18]) / os.sysconf("SC_CLK_TCK")
