"""The leaderboard of `isokl report`: methods over all pairs of model and behavior."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from isokl_bench.report.tables.leaderboard import leaderboard_csv, leaderboard_markdown, print_leaderboards
from isokl_bench.results.leaderboard import Board, leaderboards
from isokl_bench.results.ranking import rankings
from isokl_bench.results.responses import Responses
from isokl_bench.results.runs import finished_runs
from isokl_db import Store
from tests.report_store import add, begin, calibration, rows_of, summary

EFFECTS = {  # by method, of the two seeds on each model
    "pca": {"tiny-qwen": (2.0, 2.2), "tiny-llama": (-3.0, -3.2)},
    "mean_diff": {"tiny-qwen": (1.0, 1.2), "tiny-llama": (1.4, 1.6)},
    "random": {"tiny-qwen": (0.1, -0.3), "tiny-llama": (1.5, -1.5)},
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "own.db") as opened:
        for method, models in EFFECTS.items():
            for model, effects in models.items():
                for seed, effect in enumerate(effects):
                    add(opened, method=method, model=model, seed=seed, effect=effect)
        yield opened


def boards(store: Store) -> list[Board]:
    table = rows_of(store)
    return leaderboards(table, rankings(table, Responses(store)))


def test_methods_stand_by_their_mean_effect_over_pairs(store: Store) -> None:
    (board,) = boards(store)
    assert (board.title, board.pairs) == ("", 2)
    standings = {standing.method: standing for standing in board.standings}
    assert list(standings) == ["mean_diff", "random", "pca"]
    means = {method: standing.effect.mean for method, standing in standings.items() if standing.effect}
    assert means == pytest.approx({"mean_diff": 1.3, "random": -0.05, "pca": -0.5})
    mean_diff = standings["mean_diff"]
    assert mean_diff.effect is not None
    half = 12.706205 * 0.2  # of 1.1 and 1.5
    assert (mean_diff.effect.low, mean_diff.effect.high) == pytest.approx((1.3 - half, 1.3 + half))
    found = {
        method: (standing.above, standing.controlled, standing.turned, standing.first)
        for method, standing in standings.items()
    }
    assert found == {
        "mean_diff": (1, 2, 0, 1),  # on llama seed 0 is below the control's 1.5
        "random": (0, 0, None, 0),
        "pca": (1, 2, 1, 1),  # on llama it moves most, but the other way
    }
    assert (mean_diff.reached, mean_diff.runs) == (4, 4)
    assert mean_diff.beside["nll_ratio"] == pytest.approx(1.5)
    assert mean_diff.beside["pmass_change"] == pytest.approx(-0.05)
    assert mean_diff.seconds == pytest.approx(2.0)  # two phases of a second each


def test_without_a_control_nothing_is_said_of_it(store: Store) -> None:
    table = rows_of(store, method=["pca", "mean_diff"])
    (board,) = leaderboards(table, rankings(table, Responses(store)))
    assert [standing.controlled for standing in board.standings] == [0, 0]


def test_only_pairs_in_which_the_control_has_an_effect_are_counted(store: Store) -> None:
    for method, outcome in (
        ("random", "budget_not_reached"),
        ("pca", "converged"),
        ("mean_diff", "converged"),
    ):
        add(store, method=method, model="tiny-gemma", outcome=outcome)
    (board,) = boards(store)
    counts = {s.method: (s.above, s.controlled, s.measured) for s in board.standings}
    assert counts["pca"] == (1, 2, 3)


def test_the_control_is_known_whatever_else_varies(store: Store) -> None:
    for method, effect in (("pca", 4.0), ("random", 1.0)):
        for model in ("tiny-qwen", "tiny-llama"):
            for seed in (0, 1):
                add(store, method=method, model=model, seed=seed, layers=[1], effect=effect)
    (board,) = boards(store)
    counts = {s.method: (s.above, s.controlled) for s in board.standings}
    assert counts["pca (layers 1)"] == (2, 2)
    assert counts["random (layers 1)"][1] == 0


def test_first_is_what_is_not_told_from_the_largest(tmp_path: Path) -> None:
    """Neighbours that are not told apart form a chain; its end is still told from its beginning."""
    with Store(tmp_path / "chain.db") as store:
        for model in ("tiny-qwen", "tiny-llama"):
            for method, effect in (("a", 1.0), ("b", 0.8), ("c", 0.4), ("d", 0.0)):  # ± 0.25
                add(store, method=method, model=model, effect=effect)
        (board,) = boards(store)
    assert {s.method: s.first for s in board.standings} == {"a": 2, "b": 2, "c": 0, "d": 0}


def test_nothing_is_first_where_nothing_moves_the_answer_as_asked(tmp_path: Path) -> None:
    with Store(tmp_path / "reversed.db") as store:
        for model in ("tiny-qwen", "tiny-llama"):
            for method, effect in (("a", -1.0), ("b", -3.0), ("c", 0.2 if model == "tiny-qwen" else -2.0)):
                add(store, method=method, model=model, effect=effect)  # ± 0.25
        (board,) = boards(store)
    assert {s.method: (s.first, s.turned) for s in board.standings} == {"a": (0, 2), "b": (0, 2), "c": (0, 1)}


def test_a_prompt_is_said_to_have_no_dose(store: Store) -> None:
    for model in ("tiny-qwen", "tiny-llama"):
        add(store, method="prompt", model=model, outcome="no_dose", effect=5.0, layers=[])
    (board,) = boards(store)
    prompt = next(s for s in board.standings if s.method == "prompt")
    assert prompt.reached is None
    assert "| no dose |" in leaderboard_markdown([board])


def test_a_method_that_is_another_takes_no_row_beside_it(store: Store) -> None:
    for model in ("tiny-qwen", "tiny-llama"):
        add(store, method="pca_center", model=model, effect=9.0)
    assert [s.method for s in boards(store)[0].standings] == ["mean_diff", "random", "pca"]


def test_one_pair_makes_no_leaderboard(store: Store) -> None:
    table = rows_of(store, model=["tiny-qwen"])
    assert leaderboards(table, rankings(table, Responses(store))) == []


def test_a_method_is_one_though_its_layers_differ_between_models(store: Store) -> None:
    for method in ("pca", "mean_diff"):
        add(store, method=method, model="tiny-gemma", layers=[9])
    assert {s.method: s.runs for s in boards(store)[0].standings} == {"mean_diff": 5, "pca": 5, "random": 4}


def test_fewer_prompts_than_others_of_the_pair_are_said(store: Store) -> None:
    attempt = begin(store, method="few", model="tiny-qwen")
    attempt.commit_phase("calibrate", 1.0, calibrations=[calibration()])
    effect = summary("target_logit", "log_ratio", 1.0, (2.0, 1.0, 3.0), n=4)
    attempt.commit_phase("metrics", 1.0, summaries=[effect])
    attempt.done()
    assert "few has fewer prompts than others in 1 of 1 pairs." in leaderboard_markdown(boards(store))


def test_conditions_are_kept_apart(store: Store) -> None:
    for model in ("tiny-qwen", "tiny-llama"):
        for method in ("pca", "mean_diff"):
            add(store, method=method, model=model, window=50)
    assert [(board.title, board.pairs) for board in boards(store)] == [("window 20", 2), ("window 50", 2)]


def test_a_method_that_reached_no_budget_is_listed_last(store: Store) -> None:
    for model in ("tiny-qwen", "tiny-llama"):
        add(store, method="angular", model=model, outcome="budget_not_reached")
    last = boards(store)[0].standings[-1]
    assert (last.method, last.effect, last.measured, last.reached, last.runs) == ("angular", None, 0, 0, 2)


def test_the_answer_after_the_reply_stands_beside_the_one_at_once(store: Store) -> None:
    for model, change in (("tiny-qwen", 4.0), ("tiny-llama", 7.0)):
        rows = [summary("target_logit", "final_log_ratio", 1.0, (change, change - 1, change + 1))]
        for run in finished_runs(store, {"method": ["pca"], "model": [model]}):
            store.attempt(run.attempt).commit_phase("more", 1.0, summaries=rows)
    (board,) = boards(store)
    found = {s.method: s.later for s in board.standings}
    assert found == {"pca": pytest.approx(5.5), "mean_diff": None, "random": None}
    assert "| +5.50 |" in leaderboard_markdown([board])


def test_it_is_written_as_markdown_csv_and_text(store: Store) -> None:
    found = boards(store)
    assert (
        "| mean_diff | +1.30 [−1.24, +3.84] | 1/2 | 0/2 | 1/2 | — | 1.50 | −0.05 | 4/4 | 2.0 |"
        in leaderboard_markdown(found)
    )
    rows = list(csv.DictReader(io.StringIO(leaderboard_csv(found))))
    assert [row["method"] for row in rows] == ["mean_diff", "random", "pca"]
    assert float(rows[0]["effect_low"]) == pytest.approx(-1.2412, abs=1e-4)
    assert rows[1]["above_control"] == ""
    out = io.StringIO()
    print_leaderboards(found, Console(file=out, width=120))
    assert "Leaderboard over 2 pairs of model and behavior" in out.getvalue()
