"""The rankings of `isokl report`: their order, what is told apart, and the areas."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from isokl_bench.report.tables.ranking import print_rankings, ranking_csv, ranking_markdown, titles
from isokl_bench.results import ranking as limits
from isokl_bench.results.ranking import Ranking, area, rankings
from isokl_bench.results.responses import Responses
from isokl_bench.results.runs import finished_runs
from isokl_db import Measurement, Store
from tests.report_store import add, begin, calibration, rows_of, summary

Ranks = list[tuple[str, tuple[int, int] | None, str]]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "own.db") as opened:
        yield opened


def add_doses(store: Store, method: str, doses: dict[float, tuple[float, float]], **changes: Any) -> None:
    """A run with KL and effect of each alpha; every effect is known to ± 0.1."""
    attempt = begin(store, method=method, **changes)
    attempt.commit_phase("calibrate", 1.0, calibrations=[calibration()])
    key = {"sign": 1, "metric": "kl_trajectory", "quantity": "kl", "prompt": 0, "position": 0}
    attempt.commit_phase(
        "metrics",
        1.0,
        measurements=[Measurement(**key, alpha=alpha, value=kl) for alpha, (kl, _) in doses.items()],
        summaries=[
            summary("target_logit", "log_ratio", alpha, (effect, effect - 0.1, effect + 0.1))
            for alpha, (_, effect) in doses.items()
        ],
    )
    attempt.done()


def add_effects(store: Store, method: str, effects: Sequence[float], first_seed: int = 0) -> None:
    for seed, effect in enumerate(effects, first_seed):
        add_doses(store, method, {1.0: (1.0, effect)}, seed=seed)


def ranked(store: Store) -> list[Ranking]:
    return rankings(rows_of(store), Responses(store))


def ranks(store: Store) -> Ranks:
    (ranking,) = ranked(store)
    return [(entry.method, entry.ranks, entry.remark) for entry in ranking.entries]


# -- order and ranks ----------------------------------------------------------------------------------


def test_the_largest_effect_is_first_and_a_reversed_one_last(store: Store) -> None:
    add_effects(store, "small", [0.5])
    add_effects(store, "back", [-2.0])
    add_effects(store, "none", [0.05])
    add_effects(store, "large", [1.0])
    assert ranks(store) == [
        ("large", (1, 1), ""),
        ("small", (2, 2), ""),
        ("none", (3, 3), "no effect"),
        ("back", (4, 4), "reversed"),
    ]


def test_ranks_go_as_far_as_intervals_overlap(store: Store) -> None:
    for method, effect in (("a", 0.2), ("b", 0.1), ("c", -0.05), ("d", -0.3)):  # each ± 0.1
        add_effects(store, method, [effect])
    assert [place for _, place, _ in ranks(store)] == [(1, 2), (1, 3), (2, 3), (4, 4)]


def test_seeds_are_compared_in_pairs(store: Store) -> None:
    add_effects(store, "a", [1.0, 2.0, 3.0])
    add_effects(store, "b", [0.9, 1.9, 2.9])  # always less, though the intervals overlap
    add_effects(store, "c", [1.0, 1.8, 2.8])  # as much as a once
    assert [place for _, place, _ in ranks(store)] == [(1, 2), (2, 3), (1, 3)]


def test_pairs_of_seeds_keep_their_signs(store: Store) -> None:
    add_effects(store, "a", [-1.8, -1.9, -2.0])
    add_effects(store, "b", [-1.9, -2.0, -2.1])
    add_effects(store, "c", [-1.6, -2.0, -2.5])
    assert ranks(store) == [
        ("a", (1, 2), "reversed"),
        ("b", (2, 3), "reversed"),
        ("c", (1, 3), "reversed"),
    ]


def test_seeds_that_differ_are_compared_by_their_intervals(store: Store) -> None:
    add_effects(store, "a", [3.0, 3.5, 4.0])
    add_effects(store, "b", [1.0, 1.4, 1.6], first_seed=2)  # one seed in common; 1.3 ± 0.8 is under 3.5 ± 1.2
    add_effects(store, "c", [1.0, 1.1, 1.2], first_seed=5)
    assert [place for _, place, _ in ranks(store)] == [(1, 1), (2, 3), (2, 3)]


def test_what_has_no_effect_to_rank_comes_last_with_its_reason(store: Store) -> None:
    add(store, method="a", outcome="budget_not_reached")
    attempt = begin(store, method="b")
    attempt.commit_phase("calibrate", 1.0, calibrations=[calibration()])
    attempt.done()
    add_effects(store, "c", [1.0])
    assert ranks(store) == [
        ("c", (1, 1), ""),
        ("a", None, "budget not reached"),
        ("b", None, "not measured"),
    ]


def test_an_effect_without_an_interval_is_not_told_apart(store: Store) -> None:
    add_effects(store, "a", [1.0])
    attempt = begin(store, method="a", seed=1)
    attempt.commit_phase("calibrate", 1.0, calibrations=[calibration()])
    attempt.done()
    add_effects(store, "b", [0.5])
    assert ranks(store) == [("a", (1, 2), "no interval"), ("b", (1, 2), "")]


def test_methods_are_ranked_for_each_budget_apart(store: Store) -> None:
    for method in ("a", "b"):
        for window in (20, 50):
            add(store, method=method, window=window)
        add(store, method=method, protocol="published")
    add(store, method="a", layers=[1])
    add(store, method="alone", behavior="honesty")
    add(store, method="alone", behavior="honesty", layers=[1])
    found = ranked(store)
    assert [(ranking.title, [entry.method for entry in ranking.entries]) for ranking in found] == [
        ("tiny-qwen · sentiment (published, window 20)", ["a (layers 3)", "b (layers 3)"]),
        ("tiny-qwen · sentiment (stable, window 20)", ["a (layers 1)", "a (layers 3)", "b (layers 3)"]),
        ("tiny-qwen · sentiment (stable, window 50)", ["a (layers 3)", "b (layers 3)"]),
    ]


def test_a_method_that_is_another_has_no_place_beside_it(store: Store) -> None:
    for method, effect in (("mean_diff", 0.5), ("pca", 1.0), ("pca_center", 1.0)):
        add_effects(store, method, [effect])
    add(store, method="pca_center", layers=[1])  # where pca was not run
    table = rows_of(store)
    (ranking,) = rankings(table, Responses(store))
    assert [entry.method for entry in ranking.entries] == [
        "pca (layers 3)",
        "pca_center (layers 1)",
        "mean_diff (layers 3)",
    ]
    assert "pca_center is pca by another way" in ranking_markdown(table, [ranking])
    assert "pca_center" in {row.first.method for row in table.rows}


def test_fewer_prompts_than_others_are_said(store: Store) -> None:
    add(store, method="full", effect=1.0)
    attempt = begin(store, method="few")
    attempt.commit_phase("calibrate", 1.0, calibrations=[calibration()])
    effect = summary("target_logit", "log_ratio", 1.0, (2.0, 1.0, 3.0), n=4)
    attempt.commit_phase("metrics", 1.0, summaries=[effect])
    attempt.done()
    assert ranks(store) == [("few", (1, 2), "4 of 16 prompts"), ("full", (1, 2), "")]
    assert "n of m prompts" in ranking_markdown(rows_of(store), ranked(store))
    small = begin(store, method="small")
    small.commit_phase("calibrate", 1.0, calibrations=[replace(calibration(), n_prompts=8)])
    small.commit_phase("metrics", 1.0, summaries=[replace(effect, n=16, mean=0.5, low=0.4, high=0.6)])
    small.done()
    assert ranks(store)[-1][2] == "8 of 32 calibration prompts"


# -- areas --------------------------------------------------------------------------------------------


def test_the_area_is_a_mean_up_to_the_reach() -> None:
    points = [(2.0, 1.0), (4.0, -3.0), (3.0, 1.0)]  # in any order
    assert area(points, 2.0) == 0.5
    assert area(points, 3.0) == pytest.approx((1 + 1) / 3)
    assert area(points, 4.0) == pytest.approx((1 + 1 - 1) / 4)
    assert area(points, 3.5) == pytest.approx((1 + 1 + 0) / 3.5)


def test_areas_go_as_far_as_every_seed_of_every_method(store: Store) -> None:
    add_doses(store, "a", {1.0: (1.0, 1.0), 2.0: (2.0, 3.0)}, seed=0)
    add_doses(store, "a", {1.0: (1.0, 2.0), 2.0: (4.0, 2.0)}, seed=1)
    add_doses(store, "b", {1.0: (3.0, 1.5)}, seed=0)
    (ranking,) = ranked(store)
    assert ranking.reach == 2.0
    first, second = (entry.area for entry in ranking.entries)
    half = 12.706205 * 0.125  # of (0.5 + 2) / 2 and (1 + 2) / 2
    assert first == pytest.approx((1.375, 1.375 - half, 1.375 + half, 2))
    assert second == (0.5, None, None, 1)


def test_without_kl_there_are_ranks_but_no_areas(store: Store) -> None:
    add(store, method="a", effect=1.0)
    add(store, method="b", effect=3.0)
    (ranking,) = ranked(store)
    assert [(e.method, e.area) for e in ranking.entries] == [("b", None), ("a", None)]
    assert ranking.reach is None
    assert "mean effect:" not in ranking_markdown(rows_of(store), [ranking])


def test_areas_of_too_many_runs_are_not_read_which_is_stated(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RUNS", 4)
    for behavior in ("authority", "honesty", "sentiment"):
        for method in "ab":
            add_doses(store, method, {1.0: (1.0, 1.0)}, behavior=behavior)
    found = ranked(store)
    assert [ranking.reach for ranking in found] == [1.0, 1.0, None]
    assert "No mean effect where" in ranking_markdown(rows_of(store), found)
    assert "No mean effect where" not in ranking_markdown(rows_of(store), found[:2])


# -- as text ------------------------------------------------------------------------------------------


@pytest.fixture
def small(store: Store) -> Store:
    """Two methods and one that failed, in one ranking."""
    add_doses(store, "pca", {1.0: (1.0, 0.5), 2.0: (2.0, 1.5)})
    final = summary("target_logit", "final_log_ratio", 1.0, (-2.0, -2.5, -1.5))
    (run,) = finished_runs(store, {})
    store.attempt(run.attempt).commit_phase("more", 1.0, summaries=[final])
    add_doses(store, "mean_diff", {1.0: (1.0, 0.4), 2.0: (3.0, 0.4)})
    add(store, method="ablation", outcome="budget_exceeded")
    return store


def test_ranking_as_markdown(small: Store) -> None:
    lines = ranking_markdown(rows_of(small), ranked(small)).splitlines()
    assert lines[:7] == [
        "**tiny-qwen · sentiment**  mean effect up to 2.00 nat",
        "",
        f"| {' | '.join(titles(rows_of(small)))} |",
        "| --: | :-- | --: | --: | --: | --: | --: | --: | :-- |",
        "| 1–2 | pca | 4.00 | +0.50 [+0.40, +0.60] | +0.62 | −2.00 [−2.50, −1.50] | 16 | 1 |  |",
        "| 1–2 | mean_diff | 4.00 | +0.40 [+0.30, +0.50] | +0.30 | — | 16 | 1 |  |",
        "| — | ablation | — | — | — | — | — | 0/1 | budget exceeded |",
    ]
    assert not any("ranked apart" in line for line in lines)


def test_ranking_as_csv(small: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(ranking_csv(rows_of(small), ranked(small)))))
    assert [row["method"] for row in rows] == ["pca", "mean_diff", "ablation"]
    assert {key: value for key, value in rows[0].items() if value} == {
        **{"model": "tiny-qwen", "behavior": "sentiment", "sign": "1", "protocol": "stable"},
        **{"budget": "kl_p95 = 1", "window": "20", "rank_first": "1", "rank_last": "2", "method": "pca"},
        **{"effect": "0.5", "effect_low": "0.4", "effect_high": "0.6"},
        **{"mean_effect": "0.625", "mean_effect_up_to_nats": "2.0"},
        **{"final_effect": "-2.0", "final_effect_low": "-2.5", "final_effect_high": "-1.5"},
        **{"prompts": "16", "seeds": "1", "seeds_reached": "1"},
    }
    assert (rows[2]["rank_first"], rows[2]["seeds_reached"], rows[2]["remark"]) == (
        "",
        "0",
        "budget exceeded",
    )


def test_rankings_in_the_terminal_are_cut_and_say_so(store: Store) -> None:
    for behavior in ("honesty", "sentiment", "sycophancy"):
        for method in range(25):
            add(store, method=f"m{method:02}", behavior=behavior, window=20)
    console = Console(file=io.StringIO(), width=120)
    print_rankings(rows_of(store), ranked(store), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.count("Ranking: tiny-qwen") == 2
    assert sum("+1.00 [+0.75, +1.25]" in line for line in shown.splitlines()) == 40
    assert "… and 35 more lines, in ranking.md." in shown
    assert max(map(len, shown.splitlines())) <= 120
