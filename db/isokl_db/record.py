"""Everything about one attempt, as plain lists of dicts."""

from typing import Any

from sqlalchemy import Connection, Table, select

from isokl_db import schema

_HIDDEN = {"id", "attempt_id", "calibration_id", "config_hash"}


def read_record(connection: Connection, attempt_id: int) -> dict[str, Any] | None:
    """The record of an attempt, None where there is no such attempt; see `isokl_db.Store.record`."""
    attempt = connection.execute(
        select(schema.attempts).where(schema.attempts.c.id == attempt_id)
    ).one_or_none()
    if attempt is None:
        return None
    config = connection.execute(
        select(schema.configs).where(schema.configs.c.hash == attempt.config_hash)
    ).one()
    nbytes = select(schema.steerings.c.nbytes).where(schema.steerings.c.attempt_id == attempt_id)
    return {
        "id": attempt_id,
        "hash": config.hash,
        "hash_version": config.hash_version,
        "config": config.config,
        "state": attempt.state,
        "error": attempt.error,
        "started_at": attempt.started_at,
        "finished_at": attempt.finished_at,
        "host": attempt.host,
        "pid": attempt.pid,
        "provenance": attempt.provenance,
        "phases": _rows(connection, schema.phases, attempt_id=attempt_id, order="finished_at"),
        "prompts": _rows(connection, schema.prompts, config_hash=config.hash, order="position"),
        "steering_nbytes": connection.execute(nbytes).scalar_one_or_none(),
        "calibrations": _calibrations(connection, attempt_id),
        "summaries": _rows(connection, schema.summaries, attempt_id=attempt_id),
        "measurements": _rows(connection, schema.measurements, attempt_id=attempt_id),
        "traces": _rows(connection, schema.traces, attempt_id=attempt_id),
    }


def _calibrations(connection: Connection, attempt_id: int) -> list[dict[str, Any]]:
    """Each calibration with its evaluations, in the order in which they were made."""
    table = schema.calibrations
    keys = connection.execute(
        select(table.c.id).where(table.c.attempt_id == attempt_id).order_by(table.c.id)
    ).scalars()
    return [
        _rows(connection, table, id=key)[0]
        | {"evaluations": _rows(connection, schema.evaluations, calibration_id=key)}
        for key in keys.all()
    ]


def _rows(connection: Connection, table: Table, *, order: str = "id", **key: Any) -> list[dict[str, Any]]:
    """The rows with this key, without the keys that the record's own nesting says already."""
    columns = [column for column in table.c if column.name not in _HIDDEN]
    query = select(*columns).filter_by(**key).order_by(table.c[order])
    return [dict(row) for row in connection.execute(query).mappings()]
