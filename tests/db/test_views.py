"""The views: the latest successful attempt of each config, and fast with ten thousand of them."""

import time
from collections.abc import Callable

import pytest
from sqlalchemy import insert

from isokl_db import Attempt, Calibration, Measurement, Store, Summary, Trace, config_hash, schema

CONFIG_COLUMNS = {"attempt_id", "hash", "model", "behavior", "method", "seed", "window", "protocol"}
RUNS = 10_000
QUERIES = {
    "results": "select * from results",
    "summaries": "select * from result_summaries where metric = 'base_nll' and alpha = 1.0 and position is null",
    "one config": "select * from result_summaries where hash = (select hash from configs where seed = 77)",
    "measurements": "select * from result_measurements where attempt_id = 77",
}


def finish(attempt: Attempt, coefficient: float) -> None:
    attempt.commit_phase(
        "all",
        2.0,
        calibrations=[
            Calibration(
                sign=sign,
                stat="kl_p95",
                target=1.0,
                tolerance=0.05,
                outcome="converged",
                coefficient=coefficient,
                value=1.0,
                n_prompts=32,
                rounds=3,
            )
            for sign in (1, -1)
        ],
        summaries=[Summary(sign=1, metric="m", quantity="q", alpha=1.0, n=2, mean=coefficient)],
        measurements=[Measurement(sign=1, metric="m", quantity="q", alpha=1.0, prompt=0, value=coefficient)],
        traces=[Trace(sign=1, alpha=1.0, prompt=1, sampled=True, text="t", tokens=["t"], kl=[0.5])],
    )
    attempt.done()


def test_results_come_from_the_latest_success(begin: Callable[..., Attempt], store: Store) -> None:
    finish(begin(), 1.0)
    finish(begin(), 2.0)
    begin().fail("later, and failed")
    finish(begin(seed=1), 5.0)
    results = store.rows("select * from results order by attempt_id, sign")
    assert [(row["seed"], row["sign"], row["coefficient"]) for row in results] == [
        (0, -1, 2.0),
        (0, 1, 2.0),
        (1, -1, 5.0),
        (1, 1, 5.0),
    ]
    assert {row["seconds"] for row in results} == {2.0}
    assert results[0].keys() >= CONFIG_COLUMNS | {"stat", "target", "outcome", "low", "high", "value"}
    for view, value in [("result_summaries", "mean"), ("result_measurements", "value")]:
        rows = store.rows(f"select * from {view} order by attempt_id")
        assert [row[value] for row in rows] == [2.0, 5.0]
        assert rows[0].keys() >= CONFIG_COLUMNS
    traces = store.rows("select * from result_traces")
    assert [(row["prompt_text"], row["text"]) for row in traces] == [("f", "t")] * 2
    states = [row["state"] for row in store.rows("select * from runs order by attempt_id")]
    assert states == ["done", "done", "failed", "done"]


@pytest.fixture
def large(store: Store) -> Store:
    """Ten thousand finished runs, each with a calibration and a few summaries."""
    ids = range(1, RUNS + 1)
    hashes = [config_hash({"seed": id}) for id in ids]
    owner = {"state": "done", "started_at": "", "host": "", "pid": 1, "provenance": {}}
    config = {"hash_version": 1, "config": {}, "model": "tiny-qwen", "created_at": ""}
    found = {"sign": 1, "stat": "s", "target": 1, "tolerance": 1, "outcome": "jump", "coefficient": 1}
    nll = {"sign": 1, "metric": "base_nll", "quantity": "nll", "n": 32, "mean": 1.0}
    with store._database.writing() as connection:
        connection.execute(
            insert(schema.configs),
            [config | {"hash": hash, "seed": id} for id, hash in zip(ids, hashes, strict=True)],
        )
        connection.execute(
            insert(schema.attempts),
            [owner | {"id": id, "config_hash": hash} for id, hash in zip(ids, hashes, strict=True)],
        )
        connection.execute(
            insert(schema.calibrations),
            [found | {"attempt_id": id, "n_prompts": 4, "rounds": 1} for id in ids],
        )
        connection.execute(
            insert(schema.summaries),
            [nll | {"attempt_id": id, "alpha": alpha} for id in ids for alpha in (0, 1, 2)],
        )
    return store


def test_ten_thousand_runs_are_read_by_index(large: Store) -> None:
    start = time.process_time()
    assert len(large.rows(QUERIES["results"])) == RUNS
    assert len(large.rows(QUERIES["summaries"])) == RUNS
    assert len(large.rows(QUERIES["one config"])) == 3
    assert large.latest(config_hash({"seed": 77})) == 77
    assert time.process_time() - start < 2
    for name, query in QUERIES.items():
        plan = [row["detail"] for row in large.rows(f"explain query plan {query}")]
        scans = [
            step for step in plan if step.startswith("SCAN") and "INDEX" not in step and step != "SCAN l"
        ]
        assert [step for step in scans if step != "SCAN configs"] == [], name
