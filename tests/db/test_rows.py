"""A value is a number, or None with a reason; both the rows and the tables see to it."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Table, insert

from isokl_db import Attempt, Calibration, Evaluation, Measurement, Store, StoreError, Summary, Trace, schema

MEASUREMENT: dict[str, Any] = {
    "sign": 1,
    "metric": "kl_trajectory",
    "quantity": "kl",
    "alpha": 1.0,
    "prompt": 0,
}
SUMMARY: dict[str, Any] = {"sign": 1, "metric": "base_nll", "quantity": "nll", "alpha": 1.0, "n": 32}
CALIBRATION: dict[str, Any] = {
    "sign": 1,
    "stat": "kl_p95",
    "target": 1.0,
    "tolerance": 0.05,
    "outcome": "converged",
    "coefficient": 3.0,
    "value": 1.01,
    "n_prompts": 32,
    "rounds": 4,
}
EVALUATION: dict[str, Any] = {"round": 1, "dose": 2.0, "value": 1.0, "tokens": 640, "complete": True}
TRACE: dict[str, Any] = {
    "sign": 1,
    "alpha": 1.0,
    "prompt": 0,
    "sampled": True,
    "text": "hi",
    "tokens": ["hi"],
    "kl": [0.5],
}
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("row", "fields", "changes"),
    [
        (Measurement, MEASUREMENT, {"value": NAN}),
        (Measurement, MEASUREMENT, {"value": INF}),
        (Measurement, MEASUREMENT, {"value": 1.0, "alpha": NAN}),
        (Measurement, MEASUREMENT, {}),
        (Measurement, MEASUREMENT, {"value": 1.0, "reason": "after EOS"}),
        (Summary, SUMMARY, {"mean": 1.0, "low": -INF}),
        (Summary, SUMMARY, {"mean": None}),
        (Calibration, CALIBRATION, {"coefficient": INF}),
        (Calibration, CALIBRATION, {"high": NAN}),
        (Calibration, CALIBRATION, {"slope": INF}),
        (Evaluation, EVALUATION, {"value": NAN}),
        (Trace, TRACE, {"kl": [0.1, NAN]}),
    ],
)
def test_rows_refuse_what_is_no_number(row: type, fields: dict[str, Any], changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=row.__name__):
        row(**(fields | changes))


@pytest.mark.parametrize(
    ("table", "fields", "changes"),
    [
        (schema.measurements, MEASUREMENT, {"value": NAN}),
        (schema.measurements, MEASUREMENT, {"value": INF}),
        (schema.measurements, MEASUREMENT, {"value": None}),
        (schema.measurements, MEASUREMENT, {"value": 1.0, "reason": "after EOS"}),
        (schema.measurements, MEASUREMENT, {"value": 1.0, "sign": 0}),
        (schema.summaries, SUMMARY, {"mean": INF}),
        (schema.summaries, SUMMARY, {"reason": None}),
        (schema.calibrations, CALIBRATION, {"outcome": "fine"}),
        (schema.calibrations, CALIBRATION, {"value_above": -INF}),
        (schema.traces, TRACE, {"kl": [NAN]}),
    ],
)
def test_tables_refuse_it_too(
    begin: Callable[..., Attempt], store: Store, table: Table, fields: dict[str, Any], changes: dict[str, Any]
) -> None:
    row = {"attempt_id": begin().id, **fields, **changes}
    with pytest.raises(StoreError), store._database.writing() as connection:
        connection.execute(insert(table).values(row))
    assert store.rows(f"select count(*) n from {table.name}") == [{"n": 0}]


def test_rows_come_back_as_they_went_in(begin: Callable[..., Attempt], store: Store) -> None:
    attempt = begin()
    found = (Evaluation(**EVALUATION), Evaluation(round=2, dose=9.5, value=None, tokens=40, complete=False))
    calibrations = [
        Calibration(**CALIBRATION, pool=311, slope=2.1, evaluations=found),
        Calibration(**(CALIBRATION | {"sign": -1})),
    ]
    measurements = [
        Measurement(**MEASUREMENT, value=0.1 + 0.2, position=3),
        Measurement(**MEASUREMENT, reason="after EOS"),
    ]
    summaries = [
        Summary(**SUMMARY, mean=1.5, low=1.0, high=2.0),
        Summary(**SUMMARY, reason="no prompt scored"),
    ]
    traces = [
        Trace(**TRACE),
        Trace(**(TRACE | {"text": "ü \x00 \n", "tokens": ["ü", " \x00", "\n"], "kl": [0.0, 1e-9, 2.5]})),
    ]
    attempt.commit_phase(
        "all", 1.0, calibrations=calibrations, measurements=measurements, summaries=summaries, traces=traces
    )
    record = store.record(attempt.id)
    assert [Measurement(**row) for row in record["measurements"]] == measurements
    assert [Summary(**row) for row in record["summaries"]] == summaries
    assert [Trace(**row) for row in record["traces"]] == traces
    first, second = record["calibrations"]
    assert tuple(Evaluation(**row) for row in first.pop("evaluations")) == found
    assert Calibration(**first, evaluations=found) == calibrations[0]
    assert Calibration(**(second | {"evaluations": ()})) == calibrations[1]


def test_twenty_thousand_measurements_in_half_a_second(begin: Callable[..., Attempt], store: Store) -> None:
    attempt = begin()
    rows = [
        Measurement(**(MEASUREMENT | {"prompt": i % 32}), position=i // 32, value=i / 7)
        for i in range(20_000)
    ]
    start = time.process_time()
    attempt.commit_phase("measure", 1.0, measurements=rows)
    assert time.process_time() - start < 0.5
    assert store.rows("select count(*) n, max(value) top from measurements") == [
        {"n": 20_000, "top": 19_999 / 7}
    ]
