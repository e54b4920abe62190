"""`isokl report`: Table 1, Figure 1 and the texts, from stores made by hand."""

from __future__ import annotations

import csv
import errno
import io
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from sqlalchemy import event

from isokl_bench.cli.report import report
from isokl_bench.report.figures.drawing import line_channels, still
from isokl_bench.report.figures.figure1 import figure, kl_domain
from isokl_bench.report.tables.cells import Cells
from isokl_bench.report.tables.files import latex, markdown
from isokl_bench.report.traces.html import traces_page
from isokl_bench.report.traces.terminal import print_traces
from isokl_bench.report.write import write_file
from isokl_bench.results.curves import Curves, quantiles, read_curves, smooth
from isokl_bench.results.lines import Line, Lines, choose_lines
from isokl_bench.results.seeds import seed_intervals
from isokl_bench.results.traces import align, depth, read_traces
from isokl_bench.results.wording import bracket, number, short, significant
from isokl_db import Store, StoreError, Summary, Trace
from isokl_registry import IsoklError
from tests.report_store import ALPHAS, add, add_curves, begin, calibration, rows_of, summary

BASES = ("answer_log_ratio", "final_answer_log_ratio", "nll")  # that `add` does not store
Isokl = Callable[..., Result]


def add_traces(store: Store, attempt: int) -> None:
    traces = [
        Trace(
            sign=1,
            alpha=alpha,
            prompt=prompt,
            sampled=True,
            text=f"<b> at {alpha:g}",
            tokens=["<b>", " at", f" {alpha:g}"],
            kl=[alpha * 0.1, 0.0, alpha * 5],
        )
        for alpha in ALPHAS
        for prompt in range(2)
    ]
    store.attempt(attempt).commit_phase("traces", 1.0, traces=traces)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three methods of one model: two converged, one that never reached its budget."""
    path = tmp_path_factory.mktemp("store") / "isokl.db"
    with Store(path) as store:
        add(store, method="mean_diff", effect=0.1)
        add(store, method="ablation", outcome="budget_not_reached")
        attempt = add(store, method="pca")
        add_curves(store, attempt)
        add_traces(store, attempt)
        begin(store, method="pca", seed=9).fail("NaN at layer 3")
    return path


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def isokl_report(path: Path) -> Isokl:
    def run(*arguments: object, db: Path | None = path) -> Result:
        given = [] if db is None else ["--db", str(db)]
        return CliRunner().invoke(report, [*given, *map(str, arguments)], catch_exceptions=False)

    return run


@pytest.fixture(scope="module")
def written(path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    """What one whole report printed, and its folder."""
    folder = tmp_path_factory.mktemp("out") / "new" / "report"
    arguments = ["--db", str(path), "--output", str(folder)]
    return CliRunner().invoke(report, arguments, catch_exceptions=False), folder


def curves_of(store: Store) -> Curves:
    curves = read_curves(store, choose_lines(rows_of(store)))
    assert curves is not None
    return curves


def cells_of(path: Path, **filters: Sequence[str]) -> Cells:
    with Store(path, read_only=True) as store:
        return Cells(rows_of(store, **filters))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "own.db") as opened:
        yield opened


# -- the command --------------------------------------------------------------------------------------


def test_the_command_is_light_to_import() -> None:
    heavy = "{'altair', 'pandas', 'vl_convert', 'sqlalchemy', 'rich', 'numpy', 'torch'}"
    script = f"import sys, isokl_bench.cli.report; print({heavy} & set(sys.modules))"
    places = [str(Path(__file__).parents[3] / part) for part in ("", "plugins", "registry", "db")]
    script = f"import sys; sys.path[:0] = {places!r}; {script}"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


def test_help_names_every_option(isokl_report: Isokl) -> None:
    shown = isokl_report("--help", db=None).output
    for option in ("--db", "--output", "--model", "--method", "--behavior", "--protocol", "--seed", "traces"):
        assert option in shown
    shown = isokl_report("traces", "--help").output
    for option in ("--db", "--prompt", "--alpha", "--html", "RUN"):
        assert option in shown


def test_a_report_writes_its_files_and_says_what_is_next(written: tuple[Result, Path], path: Path) -> None:
    result, folder = written
    names = ["table1.md", "table1.csv", "table1.tex", "ranking.md", "ranking.csv"]
    names += [f"figure{number}.{kind}" for number in (1, 2) for kind in ("png", "svg", "html")]
    assert sorted(file.name for file in folder.iterdir()) == sorted(names)
    lines = result.output.splitlines()
    assert lines[-2] == f"Wrote {', '.join(str(folder / name) for name in names)}"
    assert lines[-1] == f"Next: isokl report traces --db {path}"


def test_the_printed_table_fits_120_columns(written: tuple[Result, Path]) -> None:
    table = written[0].output.split("Wrote")[0].splitlines()
    assert max(map(len, table)) <= 120
    assert table[0] == "tiny-qwen · sentiment"
    assert [line.split() for line in table[4:6]] == [
        ["ablation", "—", "budget", "not", "reached", "—", "—", "1", *["—"] * 5, "32"],
        ["—", "2", *["—"] * 5, "1"],
    ]
    at = next(i for i, line in enumerate(table) if line.startswith("pca"))
    assert [" ".join(line.split()) for line in table[at : at + 2]] == [
        "pca 4.00 converged 1.10 0.98 1 +1.00* [+0.75, +1.25] — −9.00* 1.50 −0.05 32/16",
        "[3.50, 4.50] slope 2.0 [0.90, 1.30] 1.25 2 +2.00* [+1.75, +2.25] — −18.00* 2.00 −0.10 1",
    ]


def test_filters(isokl_report: Isokl, tmp_path: Path) -> None:
    isokl_report("--output", tmp_path, "--method", "mean_diff", "--method", "ablation", "--seed", 0)
    with (tmp_path / "table1.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == ["ablation", "mean_diff"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--method", "pcaa", "unknown method among the finished runs selected 'pcaa': did you mean 'pca'?"),
        ("--model", "gpt", "unknown model among the finished runs selected 'gpt': available: tiny-qwen"),
        ("--seed", "9", "unknown seed among the finished runs selected '9': available: 0"),
    ],
)
def test_an_unknown_filter_value(isokl_report: Isokl, option: str, value: str, message: str) -> None:
    with pytest.raises(IsoklError, match=re.escape(message)):
        isokl_report(option, value)


def test_no_database(isokl_report: Isokl, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no database at .*; run `isokl run …` first"):
        isokl_report(db=tmp_path / "none.db")


def test_no_finished_run(isokl_report: Isokl, store: Store) -> None:
    begin(store)
    with pytest.raises(
        IsoklError, match=r"no finished run in .*: run `isokl run --method pca --model tiny-qwen` first"
    ):
        isokl_report(db=store.path)


def test_a_folder_that_cannot_be_made(isokl_report: Isokl, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(IsoklError, match=r"cannot write .*file \(File exists\): make room or permission"):
        isokl_report("--output", tmp_path / "file")


def test_a_full_disk_keeps_the_file_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_file(tmp_path / "table1.md", "old")

    def full(path: Path, content: bytes) -> int:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(IsoklError, match=r"cannot write .*table1\.md \(No space left on device\): make room"):
        write_file(file, "new")
    assert [(found.name, found.read_text()) for found in tmp_path.iterdir()] == [("table1.md", "old")]


# -- Table 1 ------------------------------------------------------------------------------------------


def test_table_as_markdown(path: Path) -> None:
    lines = markdown(cells_of(path)).splitlines()
    titles = ("Δ log-ratio (nats)", "Δ final log-ratio (nats)", "Δ target logit", "NLL ratio", "Δ pmass")
    alphas = [f"{title}, α = {a}" for a in (1, 2) for title in titles]
    assert lines[0] == (
        "| model | behavior | method | coefficient | outcome | slope | calibration | holdout | sampled "
        f"| {' | '.join(alphas)} | n | seeds |"
    )
    assert lines[1] == f"| :-- | :-- | :-- | --: | :-- |{' --: |' * 16}"
    assert lines[2] == f"| tiny-qwen | sentiment | ablation | — | budget not reached |{' — |' * 14} 32 | 1 |"
    assert lines[3] == (
        "| tiny-qwen | sentiment | mean_diff | 4.00 [3.50, 4.50] | converged | 2.0 | 0.98 | 1.10 [0.90, 1.30] "
        "| 1.25 | +0.10 [−0.15, +0.35] | — | **−9.00** | 1.50 | −0.05 "
        "| +0.20 [−0.05, +0.45] | — | **−18.00** | 2.00 | −0.10 | 32/16 | 1 |"
    )
    assert lines[4] == (
        "| tiny-qwen | sentiment | pca | 4.00 [3.50, 4.50] | converged | 2.0 | 0.98 | 1.10 [0.90, 1.30] "
        "| 1.25 | **+1.00** [+0.75, +1.25] | — | **−9.00** | 1.50 | −0.05 "
        "| **+2.00** [+1.75, +2.25] | — | **−18.00** | 2.00 | −0.10 | 32/16 | 1 |"
    )
    assert "over prompts" in lines[7]
    assert "jump" not in "".join(lines)


def test_table_as_csv(written: tuple[Result, Path]) -> None:
    with (written[1] / "table1.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows["pca"] == {
        **{"model": "tiny-qwen", "behavior": "sentiment", "method": "pca", "sign": "1", "protocol": "stable"},
        **{"stat": "kl_p95", "target": "1.0", "layers": "3", "window": "20", "outcome": "converged"},
        **{"coefficient": "4.0", "coefficient_low": "3.5", "coefficient_high": "4.5", "calibration": "0.98"},
        **{
            "slope": "1.96",
            "pool": "600",
            "base_pmass_mean": "0.9",
            "base_pmass_mean_low": "0.8",
            "base_pmass_mean_high": "1.0",
            **{f"base_{name}{part}": "" for name in BASES for part in ("", "_low", "_high")},
        },
        **{"holdout": "1.1", "holdout_low": "0.9", "holdout_high": "1.3"},
        **{"holdout_sampled": "1.25", "holdout_sampled_low": "1.0", "holdout_sampled_high": "1.5"},
        **{"log_ratio_alpha1": "1.0", "log_ratio_alpha1_low": "0.75", "log_ratio_alpha1_high": "1.25"},
        **{"log_ratio_alpha2": "2.0", "log_ratio_alpha2_low": "1.75", "log_ratio_alpha2_high": "2.25"},
        **{
            "target_logit_alpha1": "-9.0",
            "target_logit_alpha1_low": "-9.5",
            "target_logit_alpha1_high": "-8.5",
        },
        **{
            "target_logit_alpha2": "-18.0",
            "target_logit_alpha2_low": "-18.5",
            "target_logit_alpha2_high": "-17.5",
        },
        **{f"final_log_ratio_alpha{a}{part}": "" for a in (1, 2) for part in ("", "_low", "_high")},
        **{"nll_ratio_alpha1": "1.5", "nll_ratio_alpha1_low": "1.0", "nll_ratio_alpha1_high": "3.0"},
        **{"nll_ratio_alpha2": "2.0", "nll_ratio_alpha2_low": "1.0", "nll_ratio_alpha2_high": "3.0"},
        **{
            "pmass_change_alpha1": "-0.05",
            "pmass_change_alpha1_low": "-0.1",
            "pmass_change_alpha1_high": "0.02",
        },
        **{
            "pmass_change_alpha2": "-0.1",
            "pmass_change_alpha2_low": "-0.2",
            "pmass_change_alpha2_high": "0.02",
        },
        **{"n_calibration": "32", "n_holdout": "16", "seeds": "1", "seeds_reached": "1"},
    }
    assert {key: value for key, value in rows["ablation"].items() if value} == {
        **{
            "model": "tiny-qwen",
            "behavior": "sentiment",
            "method": "ablation",
            "sign": "1",
            "protocol": "stable",
        },
        **{"stat": "kl_p95", "target": "1.0", "layers": "3", "window": "20", "outcome": "budget_not_reached"},
        **{"n_calibration": "32", "seeds": "1", "seeds_reached": "0"},
    }


def test_table_as_latex(store: Store) -> None:
    add(store, method="a_b[x=50%]", outcome="jump")
    lines = latex(Cells(rows_of(store))).splitlines()
    assert (
        r" &  &  &  &  &  &  &  &  & \multicolumn{5}{c}{$\alpha = 1$} & \multicolumn{5}{c}{$\alpha = 2$} &  &  \\"
        in lines
    )
    assert r"\cmidrule(lr){10-14}\cmidrule(lr){15-19}" in lines
    assert r"$\Delta$ log-ratio (nats)" in lines[7]
    (row,) = (line for line in lines if line.startswith("tiny-qwen"))
    assert row == (
        r"tiny-qwen & sentiment & a\_b[x=50\%] & 4.00 {[3.50, 4.50]} & jump & 2.0 & 0.98 & 1.10 {[0.90, 1.30]} & 1.25 & "
        r"\textbf{+1.00} {[+0.75, +1.25]} & --- & \textbf{$-$9.00} & 1.50 & $-$0.05 & "
        r"\textbf{+2.00} {[+1.75, +2.25]} & --- & \textbf{$-$18.00} & 2.00 & $-$0.10 & "
        r"32/16 & 1 \\"
    )
    assert "jump: the stat steps over its target" in lines[-2]


def test_seeds_become_one_row_with_the_interval_of_their_means(store: Store) -> None:
    for seed, (effect, coefficient) in enumerate([(1.0, 3.0), (2.0, 4.0), (6.0, 8.0)]):
        add(store, seed=seed, effect=effect, coefficient=coefficient)
    (row,) = rows_of(store).rows
    half = 4.302653 * 7**0.5 / 3**0.5  # Student's t for three seeds, whose variance is 7
    assert row.estimates["log_ratio_alpha1"] == pytest.approx((3.0, 3 - half, 3 + half, 3))
    assert row.estimates["coefficient"] == pytest.approx((5.0, 5 - half, 5 + half, 3))
    found = Cells(rows_of(store))
    assert [found.cells[0][key].text for key in ("n", "seeds")] == ["32/16", "3"]
    assert "95 % intervals of the mean over seeds; those not shown" in found.notes[1]


def test_a_seed_that_missed_its_budget_is_counted_but_not_averaged(store: Store) -> None:
    add(store, seed=0, effect=1.0)
    add(store, seed=1, effect=3.0)
    add(store, seed=2, outcome="budget_exceeded")
    found = rows_of(store)
    assert found.rows[0].estimates["log_ratio_alpha1"].mean == 2.0
    cells = Cells(found).cells[0]
    assert (cells["outcome"].text, cells["seeds"].text) == ("converged 2/3, budget exceeded 1/3", "2/3")


def test_a_column_appears_only_where_runs_differ_in_it(store: Store) -> None:
    add(store)
    assert rows_of(store).varying == []
    add(store, protocol="published")
    add(store, layers=[3, 4])
    found = rows_of(store)
    assert found.varying == ["protocol", "layers"]
    shown = [(cells["protocol"].text, cells["layers"].text) for cells in Cells(found).cells]
    assert shown == [("published", "3"), ("stable", "3"), ("stable", "3,4")]


def test_a_label_says_what_differs_within_its_model_and_behavior(store: Store) -> None:
    add(store, layers=[3])
    add(store, layers=[4])
    add(store, behavior="honesty", layers=[5], protocol="published")
    found = rows_of(store)
    assert found.varying == ["protocol", "layers"]
    shown = [(row.first.behavior, found.within_block(row.first)) for row in found.rows]
    assert shown == [("honesty", {}), ("sentiment", {"layers": "3"}), ("sentiment", {"layers": "4"})]


def test_runs_that_differ_elsewhere_are_never_pooled(store: Store) -> None:
    add(store, seed=0, tolerance=0.05)
    add(store, seed=1, tolerance=0.2)
    found = Cells(rows_of(store))
    assert [cells["tolerance"].text for cells in found.cells] == ["0.05", "0.2"]


def test_both_signs_are_rows_of_their_own(store: Store) -> None:
    attempt = begin(store)
    attempt.commit_phase(
        "calibrate", 1.0, calibrations=[calibration(), calibration(sign=-1, coefficient=5.0)]
    )
    effects = [
        summary("target_logit", "log_ratio", 1.0, (e, e, e), sign=sign) for sign, e in ((1, 2.0), (-1, -3.0))
    ]
    attempt.commit_phase("metrics", 1.0, summaries=effects)
    attempt.done()
    cells = [
        (c["sign"].text, c["coefficient"].text, c["log_ratio_alpha1"].text)
        for c in Cells(rows_of(store)).cells
    ]
    assert cells == [("+", "4.00", "+2.00"), ("−", "5.00", "−3.00")]


def test_what_was_not_measured_is_a_dash(store: Store) -> None:
    attempt = begin(store)
    attempt.commit_phase("calibrate", 1.0, calibrations=[calibration()])
    unscored = Summary(
        sign=1, metric="base_nll", quantity="nll_ratio", alpha=1.0, n=0, reason="the row has ended"
    )
    attempt.commit_phase("metrics", 1.0, summaries=[unscored])
    attempt.done()
    (cells,) = Cells(rows_of(store)).cells
    assert [cells[key].text for key in ("coefficient", "holdout", "nll_ratio_alpha1", "n")] == [
        "4.00",
        "—",
        "—",
        "32",
    ]


def test_only_the_latest_attempt_counts(store: Store) -> None:
    add(store, coefficient=4.0)
    add(store, coefficient=5.0)
    assert [row.estimates["coefficient"].mean for row in rows_of(store).rows] == [5.0]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (12.345, "12.3"),
        (-0.04567, "−0.0457"),
        (99.96, "100"),
        (1234.5, "1234"),
        (2e-7, "2.00e−7"),
    ],
)
def test_significant(value: float, text: str) -> None:
    assert significant(value) == text


def test_numbers_have_a_real_minus_and_no_signed_zero() -> None:
    assert [number(x, 2, signed=True) for x in (1.0, -1.0, 0.0)] == ["+1.00", "−1.00", "0.00"]
    assert [number(x, 2) for x in (-1.0, -0.001)] == ["−1.00", "0.00"]


def test_a_small_effect_is_not_written_as_none() -> None:
    assert [number(x, 2, signed=True) for x in (-0.001, 2.2e-5, 3e-12)] == ["−1e−3", "+2e−5", "+3e−12"]


def test_an_end_beyond_what_was_tried_is_open() -> None:
    ends = [(1.0, 2.0), (1.0, None), (None, 2.0), (None, None)]
    assert [bracket(low, high, significant) for low, high in ends] == [
        "[1.00, 2.00]",
        "[1.00, open]",
        "[open, 2.00]",
        "",
    ]


def test_long_values_of_the_config_are_shortened() -> None:
    assert (short("float32"), short([1, 2]), len(short("f" * 64))) == ("float32", "[1, 2]", 8)


# -- intervals over seeds -----------------------------------------------------------------------------


def test_the_interval_over_seeds_is_students() -> None:
    found = seed_intervals([[0, 0, 0, 1], [1, 3], [2, 2, 2], [4, 4, 4, 5]])
    assert found[0] == pytest.approx((0.25, 0.25 - 3.182446 * 0.25, 0.25 + 3.182446 * 0.25))
    assert found[1] == pytest.approx((2.0, 2 - 12.706205, 2 + 12.706205))
    assert found[2] == (2.0, 2.0, 2.0)
    assert found[3] == pytest.approx([end + 4 for end in found[0]])


@pytest.mark.parametrize("seeds", [2, 3, 7])
def test_intervals_over_seeds_hold_the_truth_as_often_as_they_say(seeds: int) -> None:
    drawn = np.random.default_rng(0).normal(1.0, 2.0, size=(4000, seeds))
    held = np.mean([low <= 1.0 <= high for _, low, high in seed_intervals(drawn.tolist())])
    assert held == pytest.approx(0.95, abs=0.01)


# -- Figure 1 -----------------------------------------------------------------------------------------


def test_quantiles_are_those_of_numpy() -> None:
    draw = np.random.default_rng(0)
    position, value = draw.integers(0, 9, 200).astype(float), draw.normal(size=200)
    positions, found, counts = quantiles(position, value, (0.1, 0.5, 0.9))
    for i, at in enumerate(positions):
        here = value[position == at]
        assert counts[i] == len(here)
        assert found[:, i] == pytest.approx(np.quantile(here, (0.1, 0.5, 0.9)))


def test_smoothing_is_centred_and_shrinks_at_the_ends() -> None:
    assert smooth(np.array([0.0, 2.0, 4.0, 12.0]), 2).tolist() == [0.0, 1.0, 3.0, 8.0]


def test_curves_are_pooled_over_prompts_and_stop_where_every_row_has_ended(path: Path) -> None:
    with Store(path, read_only=True) as store:
        curves = curves_of(store)
    assert (curves.lines.methods, curves.alphas) == (["mean_diff", "pca"], [1.0, 2.0, 4.0])
    (block,) = curves.blocks
    assert (block.title, block.budgets, block.ends) == ("tiny-qwen · sentiment", (("kl_p95", 1.0),), (20,))
    first = [point for point in block.kl if point["alpha"] == 1.0]
    assert first[0] | {"low": 0, "high": 0} == {
        **{"method": "pca", "alpha": 1.0, "token": 0, "median": pytest.approx(0.25), "low": 0, "high": 0},
        **{"n": 4, "over": "prompts"},
    }
    assert first[-1]["median"] == pytest.approx(0.3)
    assert (first[-1]["token"], first[-1]["n"]) == (79, 3)
    (lower,) = block.lower
    assert lower.curve.quantity == "pmass"
    assert {point["position"]: point["mean"] for point in lower.points if point["alpha"] == 2} == {
        0: 0.8,
        5: 0.7,
        10: 0.6,
    }
    assert [point["mean"] for point in lower.base] == [1, 1, 1]


def test_short_windows_are_not_smoothed(store: Store) -> None:
    add_curves(store, add(store), tokens=20)
    curves = curves_of(store)
    assert not curves.smoothed
    medians = [point["median"] for point in curves.blocks[0].kl if point["alpha"] == 1]
    assert medians == pytest.approx([0.25] * 10 + [0.3] * 10)


def test_figure_files(written: tuple[Result, Path]) -> None:
    folder = written[1]
    picture = (folder / "figure1.png").read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(picture[16:20], "big") in range(1700, 1900)
    drawing = ET.parse(folder / "figure1.svg").getroot()
    texts = {text.text for text in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert {
        "tiny-qwen · sentiment",
        "KL(steered ‖ base), nats",
        "generated token",
        "answer mass",
        "fork point (generated token)",
        "1 nat budget (p95)",
        "t = 20",
        "0.75: alive",
        "pca",
        *("α = 1", "α = 2", "α = 4"),
    } <= texts
    page = (folder / "figure1.html").read_text()
    assert "http" not in re.sub(r'"\$schema": "[^"]*"', "", page.rpartition("<script>")[2])
    assert page.count("<script") == 2
    assert "vegaEmbed" in page


def test_the_figure_is_valid_vega_lite(path: Path) -> None:
    import altair as alt

    with Store(path, read_only=True) as store:
        curves = curves_of(store)
    alt.Chart.from_dict(figure(curves))
    alt.Chart.from_dict(still(figure(curves)))
    assert "tooltip" in json.dumps(figure(curves))
    assert "tooltip" not in json.dumps(still(figure(curves)))
    assert kl_domain(curves.blocks) == pytest.approx([0.1, 1.5 * 1.6], rel=0.1)


def test_a_legend_that_is_wider_than_the_panels_has_rows(path: Path) -> None:
    with Store(path, read_only=True) as store:
        row = rows_of(store).rows[0]

    def columns(*methods: str) -> int:
        keys = [{"method": method} for method in methods]
        lines = Lines([Line(row, [], "", key) for key in keys], "")
        return int(line_channels(lines, keys)["color"].to_dict()["legend"]["columns"])

    assert columns("pca", "mean_diff") == 0
    assert columns(*(f"directional_ablation (layers {layer})" for layer in range(100, 107))) == 2
    assert columns("x" * 500, "y" * 500) == 1


def test_a_kl_of_zero_has_a_place_on_the_logarithmic_axis(store: Store) -> None:
    from isokl_bench.report.figures.files import svg

    add_curves(store, add(store), tokens=3, scale=0.0)
    curves = curves_of(store)
    assert not {"NaN", "Infinity"} & set(re.split(r"\W", svg(figure(curves))))


def test_a_report_without_curves_leaves_no_old_figure(
    isokl_report: Isokl, store: Store, tmp_path: Path
) -> None:
    add(store)
    for name in ("figure1.png", "figure2.svg", "ranking.md"):
        (tmp_path / name).touch()
    shown = isokl_report("--output", tmp_path, db=store.path).output
    assert "No Figure 1: no KL or other curve along the text is stored at alpha 1, 2 or 4." in shown
    assert "No Figure 2: the KL along the text and an effect are not stored at the same alphas." in shown
    assert not any(tmp_path.glob("figure*"))
    assert not any(tmp_path.glob("ranking*"))


def test_many_runs_take_three_queries(store: Store) -> None:
    for method in range(9):
        for seed in range(4):
            add(store, method=f"m{method}", seed=seed)
    statements = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    found = rows_of(store)
    assert len(found.rows) == 9
    selects = [statement for statement in statements if "SELECT" in statement]
    assert len(selects) == 3
    assert not any("measurements" in statement for statement in selects)


def test_a_long_table_is_cut_in_the_terminal_and_says_so(
    store: Store, isokl_report: Isokl, tmp_path: Path
) -> None:
    for method in range(62):
        attempt = begin(store, method=f"m{method:02}")
        attempt.commit_phase("calibrate", 1.0, calibrations=[calibration()])
        attempt.done()
    shown = isokl_report("--output", tmp_path, db=store.path).output
    assert "m59" in shown
    assert "m60" not in shown.split("Ranking")[0]
    assert "… and 2 more rows, in table1.md" in shown
    assert "m61" in (tmp_path / "table1.md").read_text()


# -- texts --------------------------------------------------------------------------------------------


def test_traces_side_by_side(isokl_report: Isokl) -> None:
    lines = [line.split() for line in isokl_report("traces").output.splitlines()]
    assert lines[0] == ["tiny-qwen", "·", "sentiment", "·", "pca", "·", "seed", "0", "(run", "3)"]
    assert lines[3] == ["prompt", "0", "holdout", "0", "0"]
    assert lines[4:7] == [
        ["α", "base", "steered"],
        ["1", "<b>", "at", "0", "<b>", "at", "1"],
        ["2", "<b>", "at", "0", "<b>", "at", "2"],
    ]
    assert lines[8] == ["prompt", "1", "holdout", "0", "1"]


def test_traces_of_one_prompt_and_alpha(isokl_report: Isokl) -> None:
    shown = isokl_report("traces", "3", "--prompt", 1, "--alpha", 2).output
    assert "prompt 0" not in shown
    assert "at 2" in shown
    assert "at 1" not in shown


def test_the_database_given_to_report_holds_for_traces(
    isokl_report: Isokl, path: Path, tmp_path: Path
) -> None:
    assert (
        isokl_report("traces").output == isokl_report("traces", "--db", path, db=tmp_path / "none.db").output
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "7"], "unknown prompt of the stored texts '7': available: 0, 1"),
        (["--alpha", "3"], "unknown alpha of the stored texts '3': available: 1, 2"),
        (["2"], "run 2 (tiny-qwen · sentiment · ablation · seed 0) has no steered texts"),
    ],
)
def test_texts_that_are_not_there(isokl_report: Isokl, arguments: list[str], message: str) -> None:
    with pytest.raises(IsoklError, match=re.escape(message)):
        isokl_report("traces", *arguments)


def test_traces_as_a_page(isokl_report: Isokl, tmp_path: Path) -> None:
    file = tmp_path / "traces.html"
    assert isokl_report("traces", "--html", file).output == f"Wrote {file}\n"
    page = file.read_text()
    assert "<b>" not in page
    assert '<span title="0.2 nat" style="background: #f6b799">&lt;b&gt;</span>' in page
    assert "http" not in page
    assert page.count("<section>") == page.count("</section>") == 2


def test_tokens_are_coloured_on_a_terminal(path: Path) -> None:
    with Store(path, read_only=True) as store:
        traces = read_traces(store, "3", {})
    console = Console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=120)
    print_traces(traces, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[38;2;0;0;0;48;2;246;183;153m<b>\x1b[0m at" in shown
    assert "<b>" not in traces_page(traces)


def test_depth_is_logarithmic() -> None:
    assert [depth(kl) for kl in (None, 0.0, 0.01, 10**-0.5, 10.0, 50.0)] == pytest.approx(
        [0, 0, 0, 0.5, 1, 1]
    )


@pytest.mark.parametrize(
    ("text", "tokens", "pieces"),
    [
        ("a b", ["a", " b"], [("a", 1), (" b", 2)]),
        ("a b", ["a", "b"], [("a", 1), (" b", 2)]),  # a tokenizer that drops the space of a lone token
        ("é!", ["\ufffd", "\ufffd", "!"], [("é!", 3)]),  # one character of two tokens
        ("ab", ["a", "", "b"], [("a", 1), ("b", 3)]),
        ("aé", ["a", "\ufffd", "\ufffd"], [("a", 1), ("é", 3)]),
        ("a<pad>", ["a"], [("a", 1), ("<pad>", None)]),
        ("", [], []),
    ],
)
def test_tokens_are_found_in_their_text(
    text: str, tokens: list[str], pieces: list[tuple[str, float | None]]
) -> None:
    found = align(text, tokens, [1.0, 2.0, 3.0][: len(tokens)])
    assert [(piece.text, piece.kl) for piece in found] == pieces
    assert "".join(piece.text for piece in found) == text


def test_the_page_of_the_figure_holds_its_data(written: tuple[Result, Path]) -> None:
    page = (written[1] / "figure1.html").read_text()
    (spec,) = re.findall(r'vegaEmbed\("#figure", (\{.*\}), \{mode', page)
    assert json.loads(spec.replace("<\\/", "</"))["datasets"]
