"""Effects that a random direction has too are marked, in Table 1 and in the ranking."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from isokl_bench.report.tables.cells import Cells
from isokl_bench.results.control import MARK, not_above_control
from isokl_bench.results.ranking import rankings
from isokl_bench.results.responses import Responses
from isokl_db import Store
from tests.report_store import add, begin, calibration, rows_of, summary


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "own.db") as opened:
        yield opened


def weak(store: Store) -> set[str]:
    rows = rows_of(store).rows
    return {rows[place].first.method for place in not_above_control(rows)}


def fill(store: Store, effects: dict[str, list[float]], **changes: object) -> None:
    for method, values in effects.items():
        for seed, effect in enumerate(values):
            add(store, method=method, seed=seed, effect=effect, **changes)


def test_over_seeds_the_paired_difference_tells(store: Store) -> None:
    fill(
        store,
        {
            "random": [0.5, -0.9, 0.1],  # its sign means nothing: sizes 0.5, 0.9, 0.1
            "pca": [0.6, 1.0, 0.2],  # above it with every seed
            "probe": [0.6, 0.8, 2.0],  # not with seed 1
            "negative": [-0.6, -1.0, -0.2],  # the other way, but above it
            "torn": [1.0, -1.0, 1.0],  # large, but not in one direction
        },
    )
    assert weak(store) == {"probe", "torn"}


def test_over_one_seed_intervals_must_not_overlap(store: Store) -> None:
    fill(store, {"random": [-1.0], "pca": [1.6], "probe": [1.4], "negative": [-1.6]})  # all ± 0.25
    assert weak(store) == {"probe"}


@pytest.mark.parametrize(("ends", "told"), [((1.0, None), True), ((None, 9.0), False), ((None, None), False)])
def test_of_an_open_interval_the_nearer_end_tells(
    store: Store, ends: tuple[float | None, float | None], told: bool
) -> None:
    fill(store, {"random": [0.1]})  # ± 0.25
    for method, side in {"pca": 1.0, "negative": -1.0}.items():
        low, high = (None if end is None else side * end for end in (ends if side > 0 else ends[::-1]))
        attempt = begin(store, method=method, seed=0)
        attempt.commit_phase("calibrate", 1.0, calibrations=[calibration()])
        effect = summary("target_logit", "log_ratio", 1.0, (side * 3.0, low, high))
        attempt.commit_phase("metrics", 1.0, summaries=[effect])
        attempt.done()
    assert weak(store) == (set() if told else {"pca", "negative"})


def test_nothing_is_marked_where_the_control_was_not_run(store: Store) -> None:
    fill(store, {"pca": [0.1], "probe": [0.2]})
    fill(store, {"random": [5.0]}, model="tiny-llama")
    assert weak(store) == set()
    assert not any(note.startswith(MARK) for note in Cells(rows_of(store)).notes)


def test_the_control_is_that_of_the_same_layers_and_budget(store: Store) -> None:
    fill(store, {"random": [5.0], "pca": [1.0]}, layers=[1])
    fill(store, {"random": [0.1], "pca": [1.0]}, layers=[3])
    fill(store, {"pca": [1.0]}, layers=[3], window=50)
    rows = rows_of(store).rows
    found = [
        (rows[place].first.dimensions.layers, rows[place].first.method) for place in not_above_control(rows)
    ]
    assert found == [("1", "pca")]


def test_table_and_ranking_say_so(store: Store) -> None:
    fill(store, {"random": [1.0, 1.0], "pca": [2.0, 2.0], "probe": [0.5, 0.5]})
    table = rows_of(store)
    texts = {cells["method"].text: cells["log_ratio_alpha1"].text for cells in Cells(table).cells}
    assert texts == {"random": "+1.00", "pca": "+2.00", "probe": "+0.50" + MARK}
    note = "°: an effect that is not clearly larger than that of random, the control, at the same budget."
    assert note in Cells(table).notes
    (ranking,) = rankings(table, Responses(store))
    assert [(entry.method, entry.remark) for entry in ranking.entries] == [
        ("pca", ""),
        ("random", "control"),
        ("probe", "not above random"),
    ]


def test_the_side_that_is_asked_for_is_that_of_the_sign(store: Store) -> None:
    """Calibrated towards −, an effect below 0 is what was asked for, and told from the control like any other."""
    for method, values in {"random": (0.5, -0.5), "pca": (-2.0, -2.2), "probe": (3.0, 3.2)}.items():
        for seed, value in enumerate(values):
            attempt = begin(store, method=method, seed=seed)
            attempt.commit_phase("calibrate", 1.0, calibrations=[calibration(sign=-1)])
            effect = summary("target_logit", "log_ratio", 1.0, (value, value, value), sign=-1)
            attempt.commit_phase("metrics", 1.0, summaries=[effect])
            attempt.done()
    assert weak(store) == set()
    (ranking,) = rankings(rows_of(store), Responses(store))
    found = [(entry.method, entry.effect and entry.effect.mean, entry.remark) for entry in ranking.entries]
    assert found == [
        ("pca", pytest.approx(2.1), ""),
        ("random", 0.0, "control, no effect"),
        ("probe", pytest.approx(-3.1), "reversed"),
    ]
