"""An attempt from its beginning to its end, phase by phase."""

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from isokl_db import Attempt, Measurement, PhaseContent, Store, StoreError

Begin = Callable[..., Attempt]
ROW = Measurement(sign=1, metric="m", quantity="q", alpha=1.0, prompt=0, value=1.0)


def state(store: Store, attempt: Attempt) -> tuple[str, str | None]:
    (row,) = store.rows("select state, error from attempts where id = :id", id=attempt.id)
    return row["state"], row["error"]


def test_it_begins_running_in_this_process(begin: Begin, store: Store) -> None:
    attempt = begin()
    record = store.record(attempt.id)
    assert (record["state"], record["finished_at"]) == ("running", None)
    assert (record["host"], record["pid"]) == (socket.gethostname(), os.getpid())
    assert record["provenance"] == {"device": "cpu"}
    assert record["started_at"].endswith("+00:00")
    assert store.latest(attempt.hash) is None


def test_phases_are_stored_in_order_with_their_data(begin: Begin, store: Store) -> None:
    attempt = begin()
    assert (attempt.phases(), attempt.steering()) == ({}, None)
    attempt.commit_phase("fit", 1.5, data={"layers": [3]}, steering=b"\x00tensors")
    attempt.commit_phase("calibrate", 2.5)
    attempt.commit_phase("a metric", 0.5, data=[1, None, "x"])
    assert list(attempt.phases().items()) == [
        ("fit", {"layers": [3]}),
        ("calibrate", None),
        ("a metric", [1, None, "x"]),
    ]
    assert attempt.steering() == b"\x00tensors"
    assert store.rows("select nbytes from steerings") == [{"nbytes": 8}]
    assert store.rows("select seconds from runs") == [{"seconds": 4.5}]


def test_a_phase_is_timed_and_stored_when_its_block_ends(begin: Begin, store: Store) -> None:
    attempt = begin()
    with attempt.phase("measure") as phase:
        assert isinstance(phase, PhaseContent)
        phase.data = {"n": 1}
        phase.measurements.append(ROW)
        assert attempt.phases() == {}
    (stored,) = store.record(attempt.id)["phases"]
    assert 0 < stored["seconds"] < 1
    assert (stored["name"], stored["data"]) == ("measure", {"n": 1})
    assert len(store.record(attempt.id)["measurements"]) == 1


def test_nothing_is_stored_of_a_phase_whose_block_raises(begin: Begin, store: Store) -> None:
    attempt = begin()

    def interrupted() -> None:
        with attempt.phase("measure") as phase:
            phase.measurements.append(ROW)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert store.record(attempt.id)["measurements"] == store.record(attempt.id)["phases"] == []


def test_nothing_is_stored_of_a_phase_with_one_bad_row(begin: Begin, store: Store) -> None:
    attempt = begin()
    bad = Measurement(sign=0, metric="m", quantity="q", alpha=1.0, prompt=0, value=1.0)  # type: ignore[arg-type]
    with pytest.raises(StoreError, match=r"refused a row.*ck_measurements_sign"):
        attempt.commit_phase("measure", 1.0, steering=b"x", measurements=[ROW, bad])
    assert (attempt.phases(), attempt.steering()) == ({}, None)
    with pytest.raises(StoreError, match="not JSON compliant"):
        attempt.commit_phase("measure", 1.0, data={"x": float("nan")}, measurements=[ROW])
    assert store.record(attempt.id)["measurements"] == []
    attempt.commit_phase("measure", 1.0, measurements=[ROW])


def test_a_phase_is_stored_once(begin: Begin) -> None:
    attempt = begin()
    attempt.commit_phase("fit", 1.0)
    with pytest.raises(StoreError, match="phase 'fit' of attempt 1 is stored already"):
        attempt.commit_phase("fit", 1.0)


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (Attempt.done, ("done", None)),
        (lambda attempt: attempt.fail("NaN at layer 3"), ("failed", "NaN at layer 3")),
        (lambda attempt: attempt.skip("needs a GPU"), ("skipped", "needs a GPU")),
    ],
)
def test_it_ends_once(begin: Begin, store: Store, end: Any, expected: tuple[str, str | None]) -> None:
    attempt = begin()
    end(attempt)
    assert state(store, attempt) == expected
    assert store.record(attempt.id)["finished_at"] >= store.record(attempt.id)["started_at"]
    with pytest.raises(StoreError, match=f"cannot become failed: attempt 1 is {expected[0]} already"):
        attempt.fail("again")


def test_a_done_attempt_takes_the_phase_of_a_later_metric(begin: Begin, store: Store) -> None:
    begin().done()
    store.attempt(1).commit_phase("new metric", 1.0, measurements=[ROW])
    assert len(store.rows("select * from result_measurements")) == 1


def test_a_failed_attempt_takes_no_phases(begin: Begin) -> None:
    attempt = begin()
    attempt.fail("out of memory")
    with pytest.raises(
        StoreError, match="phase 'fit' cannot be stored: attempt 1 is failed already; begin a new"
    ):
        attempt.commit_phase("fit", 1.0)


def test_an_attempt_of_another_process_takes_neither_phases_nor_an_end(begin: Begin, store: Store) -> None:
    attempt = begin()
    with store._database.writing() as connection:
        connection.exec_driver_sql("UPDATE attempts SET pid = 1, host = 'elsewhere'")
    with pytest.raises(StoreError, match="belongs to process 1 on elsewhere"):
        attempt.commit_phase("fit", 1.0)
    with pytest.raises(StoreError, match="belongs to process 1 on elsewhere"):
        attempt.done()


def test_a_deleted_attempt_says_so(begin: Begin, store: Store) -> None:
    attempt = begin()
    with store._database.writing() as connection:
        connection.exec_driver_sql("DELETE FROM attempts")
    with pytest.raises(StoreError, match=r"attempt 1 was deleted from .*isokl\.db; begin a new one"):
        attempt.commit_phase("fit", 1.0)
    assert begin().id == 2
