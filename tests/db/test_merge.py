"""Stores of several machines become one: nothing is lost, doubled or overwritten."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import update

from isokl_bench.cli.db import db
from isokl_db import (
    Attempt,
    Calibration,
    Evaluation,
    Measurement,
    Merged,
    Store,
    StoreError,
    Summary,
    Trace,
    merge,
)
from isokl_db.schema import attempts

Config = Callable[..., dict[str, Any]]
Begin = Callable[..., Attempt]
KEYS = {"sign": 1, "metric": "m", "quantity": "q", "alpha": 1.0}
COUNTED = (
    "configs",
    "prompts",
    "attempts",
    "phases",
    "steerings",
    "calibrations",
    "evaluations",
    "measurements",
    "summaries",
    "traces",
)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Store]:
    """The store of another machine."""
    with Store(tmp_path / "other.db") as opened:
        yield opened


@pytest.fixture
def began(config: Config, prompts: dict[str, list[str]]) -> Callable[..., Attempt]:
    """Begin an attempt in a store, as if it had started at a time."""

    def begin(store: Store, started: str, **changes: Any) -> Attempt:
        attempt = store.begin(config(**changes), prompts=prompts, provenance={"device": "cpu"})
        with store.engine.begin() as connection:
            mine = update(attempts).where(attempts.c.id == attempt.id)
            connection.execute(mine.values(started_at=f"2026-01-{started}T00:00:00.000000+00:00"))
        return attempt

    return begin


def fill(attempt: Attempt, value: float = 0.5) -> None:
    """One row or two of everything that an attempt can have."""
    rounds = [
        Evaluation(round=i, dose=2.0 + i, value=value, tokens=20, complete=i == 1) for i in range(2)
    ] + [Evaluation(round=2, dose=9.0, value=None, tokens=3, complete=False)]
    found = {"stat": "kl_p95", "target": 1.0, "tolerance": 0.05, "outcome": "converged", "value": value}
    with attempt.phase("fit") as phase:
        phase.steering = b"tensors"
        phase.data = {"layers": [3], "name": "ü"}
    with attempt.phase("calibrate") as phase:
        phase.calibrations = [
            Calibration(
                sign=sign, coefficient=4.0, n_prompts=2, rounds=2, evaluations=rounds[: 2 + sign], **found
            )
            for sign in (1, -1)
        ]
        phase.measurements = [
            Measurement(**KEYS, prompt=0, position=7, value=value),
            Measurement(**KEYS, prompt=1, reason="the row has ended"),
        ]
        phase.summaries = [Summary(**KEYS, n=2, mean=value, low=0.25, high=0.75)]
        phase.traces = [
            Trace(sign=1, alpha=1.0, prompt=0, sampled=True, text="ü b", tokens=["ü", " b"], kl=[0.5, 0.0])
        ]
    attempt.done()


def record(store: Store, id: int) -> dict[str, Any]:
    """All that is stored of an attempt but its id."""
    return {name: value for name, value in store.record(id).items() if name != "id"}


def counts(store: Store) -> list[int]:
    return [store.query(f"SELECT COUNT(*) FROM {table}").rows[0][0] for table in COUNTED]


def test_an_attempt_comes_whole_under_a_new_id(
    store: Store, other: Store, begin: Begin, began: Begin
) -> None:
    fill(begin(seed=7))
    before = record(store, 1)
    fill(began(other, "02"), 0.75)
    began(other, "03").fail("NaN at layer 3")
    assert merge(store, other) == Merged(attempts=2, configs=1, known=0, running=0, older=0)
    assert counts(store) == [2, 12, 3, 4, 2, 4, 8, 4, 2, 2]
    assert record(store, 1) == before
    assert record(store, 2) == record(other, 1)
    assert record(store, 2)["calibrations"][1]["evaluations"][0]["value"] == 0.75
    assert record(store, 3) == record(other, 2)
    assert store.attempt(2).steering() == b"tensors"


def test_merging_again_changes_nothing(store: Store, other: Store, began: Begin) -> None:
    fill(began(other, "02"))
    merge(store, other)
    before = counts(store)
    assert merge(store, other) == Merged(attempts=0, configs=0, known=1, running=0, older=0)
    assert counts(store) == before
    fill(began(other, "03"))
    assert merge(store, other) == Merged(attempts=1, configs=0, known=1, running=0, older=0)


def test_and_back_again(store: Store, other: Store, begin: Begin, began: Begin) -> None:
    fill(begin(seed=1))
    fill(began(other, "02"))
    merge(store, other)
    assert merge(other, store) == Merged(attempts=1, configs=1, known=1, running=0, older=0)
    assert counts(other) == counts(store)


@pytest.mark.parametrize("change", [{"started_at": "2026"}, {"host": "elsewhere"}, {"pid": 1}])
def test_attempts_at_one_config_come_side_by_side(
    store: Store, other: Store, began: Begin, change: dict[str, Any]
) -> None:
    fill(began(store, "02"), 0.25)
    fill(began(other, "02"), 0.75)
    assert merge(store, other).known == 1  # the same host, process and start: the same attempt
    with other.engine.begin() as connection:
        connection.execute(update(attempts).values(change))
    found = merge(store, other)
    assert (found.attempts, found.configs, found.known) == (1, 0, 0)
    assert [record(store, id)["summaries"][0]["mean"] for id in (1, 2)] == [0.25, 0.75]


def test_a_running_attempt_is_left_out_with_its_config(store: Store, other: Store, began: Begin) -> None:
    began(other, "02", seed=1)
    began(other, "03", seed=2).skip("no such device")
    assert merge(store, other) == Merged(attempts=1, configs=1, known=0, running=1, older=0)
    assert store.rows("SELECT state, seed FROM runs") == [{"state": "skipped", "seed": 2}]


def test_ids_follow_the_start_of_attempts(store: Store, other: Store, began: Begin) -> None:
    for started in ("05", "03", "04"):  # as a store that was merged into before may have them
        fill(began(other, started))
    assert merge(store, other).older == 0
    started = [row["started_at"][8:10] for row in store.rows("SELECT started_at FROM attempts ORDER BY id")]
    assert started == ["03", "04", "05"]


def test_a_latest_attempt_that_became_an_older_one_is_counted(
    store: Store, other: Store, began: Begin
) -> None:
    fill(began(store, "05", seed=1))
    fill(began(store, "05", seed=2))
    began(store, "05", seed=3).fail("no memory")
    for started, seed in (("04", 1), ("06", 2), ("04", 3)):
        fill(began(other, started, seed=seed))
    assert merge(store, other).older == 1
    assert store.latest(store.attempt(1).hash) == 4


def test_a_store_is_not_merged_into_itself(store: Store, path: Path, tmp_path: Path) -> None:
    (tmp_path / "link.db").symlink_to(path)
    for name in (path, tmp_path / "link.db", f"sqlite:///{path}"):
        with Store(name, read_only=True) as same, pytest.raises(StoreError, match="are the same database"):
            merge(store, same)


def test_all_of_a_store_is_merged_or_none(store: Store, other: Store, began: Begin) -> None:
    fill(began(other, "02", seed=1))
    fill(began(other, "03", seed=2))
    with other.engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA ignore_check_constraints = ON")
        connection.exec_driver_sql("UPDATE summaries SET sign = 9 WHERE attempt_id = 2")
    with pytest.raises(StoreError, match=r"isokl\.db refused a row, and with it the whole transaction"):
        merge(store, other)
    assert counts(store) == [0] * len(COUNTED)


def test_what_fails_in_the_other_store_bears_its_name(store: Store, other: Store, began: Begin) -> None:
    fill(began(other, "02"))
    with other.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE evaluations")
    with pytest.raises(StoreError, match=r"other\.db: no such table: evaluations"):
        merge(store, other)
    assert counts(store) == [0] * len(COUNTED)


# -- isokl db merge ------------------------------------------------------------------------------------


def merged(*arguments: object) -> Result:
    return CliRunner().invoke(db, ["merge", *map(str, arguments)], catch_exceptions=False)


def test_the_command_says_what_it_did(store: Store, other: Store, began: Begin) -> None:
    fill(began(store, "05", seed=1))
    fill(began(other, "04", seed=1))
    began(other, "04", seed=2).fail("no memory")
    began(other, "04", seed=3)
    first, second = merged(other.name, other.name, "--db", store.name).output.splitlines()
    assert first.startswith(f"merged 2 attempts from {other.name} (1 config new, 1 running left out, ")
    assert first.endswith(", 1 config now answered by an older attempt from there)")
    assert second.endswith(" (0 configs new, 2 attempts already here, 1 running left out)")


def test_the_other_file_stays_as_it_is(other: Store, began: Begin, tmp_path: Path) -> None:
    fill(began(other, "02"))
    other.close()
    file = Path(other.name)
    before = file.read_bytes()
    merged(file, "--db", tmp_path / "new.db")
    assert file.read_bytes() == before
    with Store(tmp_path / "new.db", read_only=True) as new:
        assert counts(new) == [1, 6, 1, 2, 1, 2, 4, 2, 1, 1]


def test_a_missing_other_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no database at .*nope\.db"):
        merged(tmp_path / "nope.db", "--db", tmp_path / "new.db")
    assert list(tmp_path.iterdir()) == []
