"""Stored labels read apart: parameters, metrics that nobody declares any more, and what a stranger's declaration does."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from isokl_bench.cli.summary_table import summary_table
from isokl_bench.report.tables.cells import Cells
from isokl_bench.report.tables.files import markdown, plain_csv
from isokl_bench.report.tables.ranking import titles
from isokl_bench.report.tables.terminal import print_table
from isokl_bench.results.curves import read_curves
from isokl_bench.results.declared import curves_of, is_control, is_shift, labels_of, measures_of, unit_of
from isokl_bench.results.leaderboard import leaderboards
from isokl_bench.results.lines import choose_lines
from isokl_bench.results.ranking import rankings
from isokl_bench.results.responses import Responses
from isokl_bench.results.runs import finished_runs
from isokl_db import Measurement, Store
from isokl_registry import Column, Curve, Entry, Metric, Source, load_registry
from tests.report_store import add, begin, calibration, rows_of, summary

LONG = "branch_pmass[window=512]"


@dataclass(frozen=True)
class Toxicity(Metric):
    """How rude a text is."""

    name: ClassVar[str] = "toxicity"
    columns: ClassVar = (
        Column("rude", "Δ rudeness", unit="%", digits=1, signed=True, role="side effect", note="of a text"),
        Column("log_ratio", "ratio", role="diagnostic"),
    )
    curves: ClassVar = (Curve("rude_at", "rudeness", unit="%"),)

    def measure(self, session):  # type: ignore[no-untyped-def]
        raise NotImplementedError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "own.db") as opened:
        yield opened


@pytest.fixture
def toxicity(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("metric", "toxicity", Toxicity, Source("test", "isokl-test", "1"))
    monkeypatch.setitem(load_registry().entries["metric"], "toxicity", entry)


def more(store: Store, attempt: int, *summaries: object, measurements: tuple[Measurement, ...] = ()) -> None:
    store.attempt(attempt).commit_phase("more", 1.0, summaries=summaries, measurements=measurements)


def change(metric: str, mean: float, alpha: float = 1.0) -> object:
    return summary(metric, "pmass_change", alpha, (mean, mean - 0.01, mean + 0.01))


def csv_of(store: Store) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(plain_csv(rows_of(store)))))


def printed(store: Store) -> list[str]:
    console = Console(file=io.StringIO(), width=120)
    print_table(Cells(rows_of(store)), console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


# -- parameters -----------------------------------------------------------------------------------------


def test_parameters_alone_change_no_title(store: Store) -> None:
    attempt = begin(store)
    attempt.commit_phase("all", 1.0, calibrations=[calibration()], summaries=[change(LONG, -0.25)])
    attempt.done()
    assert csv_of(store)[0]["pmass_change_alpha1"] == "-0.25"
    assert "| Δ pmass, α = 1 |" in markdown(Cells(rows_of(store)))


def test_two_parametrisations_are_two_labelled_columns(store: Store) -> None:
    attempt = add(store)
    more(store, attempt, change(LONG, -0.25))
    (row,) = csv_of(store)
    assert (row["pmass_change_alpha1"], row["pmass_change[window=512]_alpha1"]) == ("-0.05", "-0.25")
    (title, *_) = markdown(Cells(rows_of(store))).splitlines()
    assert "| Δ pmass, α = 1 | Δ pmass [window=512], α = 1 |" in title
    lines = printed(store)
    assert max(map(len, lines)) <= 120
    assert sum("[window=512]" in line for line in lines) == 1
    assert [line.split() for line in lines if line.startswith("pca")][1] == ["pca", "1", "−0.25*"]


def test_parameters_of_runs_that_are_not_selected_label_nothing(store: Store) -> None:
    add(store, method="mean_diff")
    attempt = begin(store)
    attempt.commit_phase("all", 1.0, calibrations=[calibration()], summaries=[change(LONG, -0.25)])
    attempt.done()
    assert "pmass_change[window=512]_alpha1" in csv_of(store)[0]
    table = rows_of(store, method=["pca"])
    assert [measure.title for measure in table.measures] == ["Δ pmass"]
    assert table.rows[0].estimates["pmass_change_alpha1"].mean == -0.25


def test_a_ranking_says_by_which_parameters_an_effect_was_measured(store: Store) -> None:
    add(store, method="pca", effect=1.0)
    attempt = begin(store, method="mean_diff")
    effect = summary("target_logit[window=5]", "log_ratio", 1.0, (3.0, 2.9, 3.1))
    attempt.commit_phase("all", 1.0, calibrations=[calibration()], summaries=[effect])
    attempt.done()
    (ranking,) = rankings(rows_of(store), Responses(store))
    assert [(entry.method, entry.remark) for entry in ranking.entries] == [
        ("mean_diff", "by target_logit[window=5]"),
        ("pca", "by target_logit"),
    ]


def test_figure_1_draws_the_parametrisation_that_reaches_furthest(store: Store) -> None:
    attempt = add(store)
    for metric, ends, mass in (("branch_pmass", (0, 5), 0.9), (LONG, (0, 256, 512), 0.8)):
        key = {"sign": 1, "metric": metric, "quantity": "pmass", "alpha": 1.0, "prompt": 0}
        measurements = tuple(Measurement(**key, position=end, value=mass) for end in ends)
        masses = [summary(metric, "pmass", 1.0, (mass, mass, mass), position=end) for end in ends]
        store.attempt(attempt).commit_phase(metric, 1.0, summaries=masses, measurements=measurements)
    (run,) = finished_runs(store, {})
    assert [stored.metric for stored in curves_of(store, run)] == [LONG]
    assert len(curves_of(store, run, furthest=False)) == 2
    curves = read_curves(store, choose_lines(rows_of(store)))
    assert curves is not None
    assert [(p["position"], p["mean"]) for p in curves.blocks[0].lower[0].points] == [
        (0, 0.8),
        (256, 0.8),
        (512, 0.8),
    ]


def test_labels_are_read_from_both_tables_and_of_one_attempt(store: Store) -> None:
    first, second = add(store), add(store, seed=1)
    key = {"sign": 1, "quantity": "kl", "alpha": 1.0, "prompt": 0, "position": 0, "value": 1.0}
    more(store, first, measurements=(Measurement(metric="kl_trajectory[window=7]", **key),))
    built_in = ["target_logit", "base_nll", "branch_pmass"]
    assert labels_of(store, first) == [*built_in, "kl_trajectory[window=7]", "validation"]
    assert labels_of(store, second) == [*built_in, "validation"]


def test_methods_and_stats_are_known_whatever_their_parameters() -> None:
    assert [is_control(name) for name in ("random", "pca", "gone[x=1]")] == [True, False, False]
    assert [unit_of(name) for name in ("nll", "kl_p95", "gone")] == ["nat", "nat", ""]
    assert [is_shift(name) for name in ("kl_p95", "kl_max", "nll", "gone")] == [True, True, False, False]


# -- what no plugin declares ----------------------------------------------------------------------------


def test_a_metric_whose_plugin_is_gone_is_shown_plainly(store: Store) -> None:
    more(store, add(store), summary("gone[x=1]", "some_number", 1.0, (0.5, 0.4, 0.6)))
    (title, _, row, *_) = markdown(Cells(rows_of(store))).splitlines()
    assert "| some number, α = 1 |" in title
    assert "| 0.50 |" in row
    assert "some number" not in titles(rows_of(store))  # nobody says that it is an effect


def test_checks_of_the_budget_are_no_metrics(store: Store) -> None:
    add(store)
    assert {m.metric for m in rows_of(store).measures} == {"target_logit", "base_nll", "branch_pmass"}
    assert measures_of([("validation", "holdout"), ("gap", "kl_p95")]) == []


# -- a stranger's declaration ---------------------------------------------------------------------------


@pytest.mark.usefixtures("toxicity")
def test_a_strangers_metric_is_in_every_table(store: Store) -> None:
    for model in ("tiny-qwen", "tiny-llama"):
        for method, rude in (("pca", 2.25), ("mean_diff", -1.0)):
            rude_at = summary("toxicity", "rude", 1.0, (rude, rude - 0.5, rude + 0.5))
            more(store, add(store, method=method, model=model), rude_at)
    table = rows_of(store)
    assert "Δ rudeness (%), α = 1" in markdown(Cells(table))
    assert "rudeness: of a text." in " ".join(Cells(table).notes)
    assert {row["method"]: row["rude_alpha1"] for row in csv_of(store)} == {
        "pca": "2.25",
        "mean_diff": "-1.0",
    }
    assert "Δ rudeness (%)" in titles(table)
    (board,) = leaderboards(table, rankings(table, Responses(store)))
    assert {s.method: s.beside["rude"] for s in board.standings} == {"pca": 2.25, "mean_diff": -1.0}
    lines = printed(store)
    assert max(map(len, lines)) <= 120
    assert sum("−1.0*" in line for line in lines) == 2  # one decimal, and told from 0


@pytest.mark.usefixtures("toxicity")
def test_the_same_quantity_of_two_metrics_is_told_apart(store: Store) -> None:
    more(store, add(store), summary("toxicity", "log_ratio", 1.0, (7.0, 6.0, 8.0)))
    (row,) = csv_of(store)
    assert (row["log_ratio_alpha1"], row["toxicity.log_ratio_alpha1"]) == ("1.0", "7.0")
    assert "| ratio (toxicity), α = 1 |" in markdown(Cells(rows_of(store)))


@pytest.mark.usefixtures("toxicity")
def test_a_strangers_curve_has_panels_of_its_own(store: Store) -> None:
    from isokl_bench.report.figures.figure1 import figure

    at = [summary("toxicity", "rude_at", alpha, (alpha, 0, None), position=3) for alpha in (0.0, 1.0)]
    more(store, add(store), *at)
    curves = read_curves(store, choose_lines(rows_of(store)))
    assert curves is not None
    (lower,) = curves.blocks[0].lower
    assert [(p["position"], p["mean"], p["low"], p["high"]) for p in lower.points] == [(3, 1.0, 0, 1.0)]
    (row,) = figure(curves)["vconcat"][0]["vconcat"]
    (panel,) = row["hconcat"]
    assert panel["title"]["text"] == "α = 1"
    assert panel["layer"][0]["encoding"]["y"]["axis"]["title"] == "rudeness, %"


@pytest.mark.usefixtures("toxicity")
def test_a_strangers_column_is_in_the_summary_of_a_run() -> None:
    row = {"metric": "toxicity[x=2]", "quantity": "rude", "alpha": 1.0, "n": 8, "mean": 2.25}
    console = Console(file=io.StringIO(), width=80)
    console.print(summary_table([row | {"low": 2.0, "high": None}]))
    shown = " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]
    assert "rudeness alpha (%)" in shown
    assert "1 +2.2 [2.0, open]" in shown
