"""Rows into tables: one prepared statement per table, however many rows."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Table, delete, insert

from isokl_db import schema
from isokl_db.rows import Calibration, Evaluation, Measurement, Summary, Trace

TOGETHER = 20_000  # rows that are held twice, for the driver

TABLES: dict[type, Table] = {
    Evaluation: schema.evaluations,
    Measurement: schema.measurements,
    Summary: schema.summaries,
    Trace: schema.traces,
}


def insert_rows(
    connection: Connection, rows: Sequence[Evaluation | Measurement | Summary | Trace], **parent: int
) -> None:
    """Insert rows of one kind, each with the key of its parent (`attempt_id=` or `calibration_id=`)."""
    for start in range(0, len(rows), TOGETHER):
        some = _plain(rows[start : start + TOGETHER])
        connection.execute(insert(TABLES[type(rows[0])]), [parent | values for values in some])


def replace_scores(connection: Connection, attempt_id: int, rows: Sequence[Measurement | Summary]) -> None:
    """Delete what an attempt has of each quantity, sign and alpha among `rows`, which come in its place."""
    for metric, quantity, sign, alpha in sorted({(r.metric, r.quantity, r.sign, r.alpha) for r in rows}):
        for table in (schema.measurements, schema.summaries):
            same = (table.c.metric == metric) & (table.c.quantity == quantity)
            same &= (table.c.sign == sign) & (table.c.alpha == alpha)
            connection.execute(delete(table).where((table.c.attempt_id == attempt_id) & same))


def insert_calibration(connection: Connection, calibration: Calibration, attempt_id: int) -> None:
    """Insert a calibration and its evaluations."""
    (values,) = _plain([calibration])
    found = values.pop("evaluations")
    key = connection.execute(
        insert(schema.calibrations).values(attempt_id=attempt_id, **values)
    ).inserted_primary_key
    assert key is not None
    insert_rows(connection, found, calibration_id=key[0])


def _plain(rows: Sequence[Any]) -> Iterable[dict[str, Any]]:
    """The rows as dicts; `dataclasses.asdict` would copy every list and take ten times as long."""
    names = [column.name for column in fields(rows[0])]
    values = attrgetter(*names)
    return (dict(zip(names, values(row), strict=True)) for row in rows)
