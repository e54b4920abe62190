"""One attempt at one config: its phases are stored one by one, each of them whole or not at all."""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from isokl_db.connection import Database
from isokl_db.errors import StoreError
from isokl_db.insert import insert_calibration, insert_rows, replace_scores
from isokl_db.rows import Calibration, Measurement, Summary, Trace
from isokl_db.schema import attempts, phases, steerings

INTERRUPTED = "interrupted"
"""The `error` of an attempt that Ctrl-C ended: the only failure that is resumed where it stopped."""


@dataclass(slots=True)
class PhaseContent:
    """What a phase wants stored; the block of `Attempt.phase` fills it in.

    Attributes:
        name: what the phase is called; an attempt has one of each name.
        data: whatever a resumed run needs, as JSON.
        steering: the steering as safetensors bytes; replaces that of an earlier phase.
        calibrations: one for each sign.
        measurements: replace what the attempt has of the same metric, quantity, sign and alpha.
        summaries: likewise.
        traces: steered texts.
    """

    name: str
    data: Any = None
    steering: bytes | None = None
    calibrations: list[Calibration] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)


class Attempt:
    """A handle on one row of `attempts`.

    A running attempt takes phases only from the process that owns it; one that is done takes more phases from
    anybody, so that a metric thought of later needs no new calibration. Failed and skipped ones take none.

    Attributes:
        id: the attempt's key.
        hash: hash of the config it belongs to.
    """

    def __init__(self, database: Database, id: int, hash: str) -> None:
        self.id = id
        self.hash = hash
        self._database = database
        self._owner = this_process()

    def __repr__(self) -> str:
        return f"Attempt(id={self.id}, hash={self.hash[:12]!r})"

    def phases(self) -> dict[str, Any]:
        """Name and data of every finished phase, in the order in which they finished."""
        mine = select(phases.c.name, phases.c.data).where(phases.c.attempt_id == self.id)
        with self._database.reading() as connection:
            return {row.name: row.data for row in connection.execute(mine.order_by(phases.c.finished_at))}

    def steering(self) -> bytes | None:
        """The fitted steering as safetensors bytes, None before it is stored."""
        mine = select(steerings.c.data).where(steerings.c.attempt_id == self.id)
        with self._database.reading() as connection:
            return connection.execute(mine).scalar_one_or_none()

    @contextmanager
    def phase(self, name: str) -> Iterator[PhaseContent]:
        """Time the block and store what it has filled in, or nothing when the block raises.

        Args:
            name: what the phase is called.

        Yields:
            An empty `PhaseContent`, to be filled in.

        Raises:
            StoreError: as for `commit_phase`.
        """
        started, content = time.perf_counter(), PhaseContent(name)
        yield content
        parts = {part.name: getattr(content, part.name) for part in fields(content)}
        self.commit_phase(seconds=time.perf_counter() - started, **parts)

    def commit_phase(
        self,
        name: str,
        seconds: float,
        data: Any = None,
        steering: bytes | None = None,
        calibrations: Sequence[Calibration] = (),
        measurements: Sequence[Measurement] = (),
        summaries: Sequence[Summary] = (),
        traces: Sequence[Trace] = (),
    ) -> None:
        """Store a finished phase with all it produced: after an error, nothing of it is stored.

        Args:
            name: what the phase is called.
            seconds: how long it took.
            data, steering, calibrations, measurements, summaries, traces: see `PhaseContent`.

        Raises:
            StoreError: the phase is stored already, or the attempt takes no phases (see the class).
        """
        with self._database.writing() as connection:
            self._check_may_store(connection, name)
            done = {"name": name, "seconds": seconds, "finished_at": utc_now(), "data": data}
            connection.execute(insert(phases).values(attempt_id=self.id, **done))
            if steering is not None:
                row = {"attempt_id": self.id, "data": steering, "nbytes": len(steering)}
                connection.execute(delete(steerings).where(steerings.c.attempt_id == self.id))
                connection.execute(insert(steerings).values(row))
            for calibration in calibrations:
                insert_calibration(connection, calibration, self.id)
            replace_scores(connection, self.id, [*measurements, *summaries])
            insert_rows(connection, measurements, attempt_id=self.id)
            insert_rows(connection, summaries, attempt_id=self.id)
            insert_rows(connection, traces, attempt_id=self.id)

    def done(self) -> None:
        """Every phase is stored: this attempt now answers for its config.

        Raises:
            StoreError: the attempt is not running, or not this process's own; so for `fail` and `skip`.
        """
        self._finish("done", None)

    def fail(self, error: str) -> None:
        """The run ended with `error` (`INTERRUPTED` for Ctrl-C); what its phases stored is kept."""
        self._finish("failed", error)

    def skip(self, reason: str) -> None:
        """The run cannot be done here, for `reason`."""
        self._finish("skipped", reason)

    def _finish(self, state: str, error: str | None) -> None:
        host, pid = self._owner
        mine = (attempts.c.id == self.id) & (attempts.c.state == "running")
        mine &= (attempts.c.host == host) & (attempts.c.pid == pid)
        with self._database.writing() as connection:
            values = {"state": state, "error": error, "finished_at": utc_now()}
            if connection.execute(update(attempts).where(mine).values(values)).rowcount != 1:
                raise StoreError(f"attempt {self.id} cannot become {state}: {self._standing(connection)}")

    def _check_may_store(self, connection: Connection, name: str) -> None:
        row = connection.execute(select(attempts).where(attempts.c.id == self.id)).one_or_none()
        mine = row is not None and row.state == "running" and (row.host, row.pid) == self._owner
        if not mine and (row is None or row.state != "done"):
            raise StoreError(f"phase {name!r} cannot be stored: {self._standing(connection)}")
        same = (phases.c.attempt_id == self.id) & (phases.c.name == name)
        if connection.execute(select(phases.c.name).where(same)).first():
            raise StoreError(
                f"phase {name!r} of attempt {self.id} is stored already; begin a new attempt to redo it"
            )

    def _standing(self, connection: Connection) -> str:
        row = connection.execute(select(attempts).where(attempts.c.id == self.id)).one_or_none()
        if row is None:
            return f"attempt {self.id} was deleted from {self._database.name}; begin a new one"
        if row.state == "running":
            return f"attempt {self.id} belongs to process {row.pid} on {row.host}; leave it to that one"
        return f"attempt {self.id} is {row.state} already; begin a new one"


def this_process() -> tuple[str, int]:
    """Host and pid: who owns the attempts that this process begins."""
    return socket.gethostname(), os.getpid()


def utc_now() -> str:
    """The time as the store writes it: ISO 8601, UTC, microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
