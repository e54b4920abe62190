"""What `isokl run` ends with: the table over alphas, and the effect in a sentence."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from isokl_bench.cli.summary import print_summary
from isokl_bench.cli.summary_table import effect_sentence, summary_table
from isokl_bench.pipeline.record import Record
from isokl_db import Calibration, Store, Summary
from tests.report_store import begin, calibration

Row = dict[str, Any]


def row(
    metric: str,
    quantity: str,
    alpha: float,
    mean: float | None,
    low: float | None = None,
    high: float | None = None,
    n: int = 32,
) -> Row:
    found = {"metric": metric, "quantity": quantity, "alpha": alpha, "n": n, "position": None, "sign": 1}
    return found | {"mean": mean, "low": low, "high": high, "reason": None if n else "no such answer"}


def effect(quantity: str, mean: float, low: float | None, high: float | None, n: int = 32) -> Row:
    return row("target_logit", quantity, 1.0, mean, low, high, n)


MEASURED = [
    row("target_logit", "answer_log_ratio", 0.0, 0.5, 0.25, 0.75),
    row("target_logit", "answer_log_ratio", 1.0, 1.5, 1.0, 2.0),
    row("target_logit", "log_ratio", 0.0, 0.0, 0.0, 0.0),
    row("target_logit", "log_ratio", 1.0, 1.0, 0.5, 1.5),
    *(row("target_logit", "answer_flip", alpha, 0.25 * alpha) for alpha in (0.0, 1.0)),
    *(row("target_logit", "flip_to_positive", alpha, 0.6 * alpha, n=20) for alpha in (0.0, 1.0)),
    *(row("target_logit", "flip_to_negative", alpha, 0.25 * alpha, n=12) for alpha in (0.0, 1.0)),
    row("base_nll", "nll", 0.0, 1.25, 1.0, 1.5),
    row("base_nll", "nll_ratio", 0.0, 1.0, 1.0, 1.0),
    row("base_nll", "nll_ratio", 1.0, 2.0, None, 2.5),
    row("branch_pmass", "pmass_mean", 0.0, 0.95, 0.9, 1.0),
    row("branch_pmass", "pmass_change", 0.0, 0.0, 0.0, 0.0),
    row("branch_pmass", "pmass_change", 1.0, -0.1, -0.2, -0.05, n=30),
]


def printed(measured: list[Row]) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(summary_table(measured))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


# -- the table ----------------------------------------------------------------------------------------


def test_alpha_0_has_the_values_of_the_base_and_the_others_changes_from_them() -> None:
    lines = [" ".join(line.split()) for line in printed(MEASURED)]
    assert lines[1:3] == ["log-ratio NLL", "alpha (nats) flips ratio pmass"]
    assert lines[4:9] == [
        "0 +0.50 20 on − 1.25 nats 0.95",
        "[0.25, 0.75] 12 on + [1.00, 1.50] [0.90, 1.00]",
        "1 +1.00 12/20 → + 2.00 −0.10",
        "[0.50, 1.50] 3/12 → − [open, 2.50] [−0.20, −0.05]",
        "n = 30",
    ]
    assert "n = 32 where not said." in " ".join(lines[9:])


def test_intervals_are_whole_on_80_columns() -> None:
    ends = (-5.12, -5.42, -1.38)
    quantities = ("log_ratio", "final_answer_log_ratio", "final_log_ratio")
    measured = [row("target_logit", quantity, 1.0, *ends) for quantity in quantities]
    measured += [
        row("branch_pmass", "pmass_change", 1.0, *ends),
        row("base_nll", "nll_ratio", 1.0, 36, 26.6, 33.9),
    ]
    lines = printed([*MEASURED, *measured])
    assert max(map(len, lines)) <= 80
    assert sum(line.count("[−5.42, −1.38]") for line in lines) == 3


def test_a_side_that_no_answer_was_on_has_no_share_of_flips() -> None:
    flips = [row("target_logit", "answer_flip", alpha, 0.0) for alpha in (0.0, 1.0)]
    flips += [row("target_logit", "flip_to_negative", alpha, 0.0) for alpha in (0.0, 1.0)]
    flips += [row("target_logit", "flip_to_positive", alpha, None, n=0) for alpha in (0.0, 1.0)]
    lines = [" ".join(line.split()) for line in printed(flips)]
    assert lines[3:5] == ["0 32 on +", "1 0/32 → −"]


# -- the sentence -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "sign", "words"),
    [
        ((1.2, 1.1, 1.3), 1, "larger than 0"),
        ((-1.2, -1.3, -1.1), 1, "reversed"),
        ((0.2, -0.1, 0.5), 1, "not distinguishable from 0"),
        ((-1.2, -1.3, -1.1), -1, "smaller than 0"),
        ((1.2, 1.1, 1.3), -1, "reversed"),
        ((1.2, 1.1, None), 1, "larger than 0"),
        ((1.2, None, 1.3), 1, "not distinguishable from 0"),
        ((1.2, None, None), 1, "without an interval"),
    ],
)
def test_the_effect_is_said_in_words(
    interval: tuple[float, float | None, float | None], sign: int, words: str
) -> None:
    sentence = effect_sentence([effect("log_ratio", *interval)], sign)
    assert sentence.startswith("effect at alpha 1 (change of the log-ratio in nats")
    assert f"[bold]{words}[/] at the start of the reply" in sentence
    assert ("asked to fall" in sentence) is (sign < 0)


def test_both_effects_are_said_with_their_numbers() -> None:
    measured = [effect("log_ratio", 1.0, 0.5, 1.5), effect("final_log_ratio", -2.0, -3.0, 1.0, n=30)]
    assert effect_sentence(measured, 1) == (
        "effect at alpha 1 (change of the log-ratio in nats): [bold]larger than 0[/] at the start of the reply "
        r"(+1.00 \[+0.50, +1.50], n = 32); [bold]not distinguishable from 0[/] after the reply (−2.00 \[−3.00, +1.00], n = 30)"
    )


def test_without_an_effect_at_alpha_1_nothing_is_said() -> None:
    assert effect_sentence([row("target_logit", "log_ratio", 2.0, 1.0, 0.5, 1.5)], 1) == ""


# -- the whole ----------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "own.db") as opened:
        yield opened


def summary_of(store: Store, found: Calibration, capsys: pytest.CaptureFixture[str]) -> str:
    attempt = begin(store)
    rows = [
        Summary(**{key: value for key, value in found.items() if key != "position"}) for found in MEASURED
    ]
    attempt.commit_phase("all", 1.0, calibrations=[found], summaries=rows)
    attempt.done()
    print_summary(Record.load(store, attempt.id), db="isokl.db", as_json=False)
    return " ".join(capsys.readouterr().out.split())


def test_a_run_says_its_pool_its_slope_and_its_effect(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = summary_of(store, calibration(), capsys)
    assert "coefficient 4 [3.50, 4.50] converged: kl_p95 0.980 for a target of 1 nat on 32 prompts" in shown
    assert "pool 600 of 640 tokens, slope 2.0: d log stat / d log dose" in shown
    assert "warning" not in shown
    assert "effect at alpha 1 (change of the log-ratio in nats): larger than 0 at the start" in shown


@pytest.mark.parametrize(("pool", "warned"), [(320, False), (319, True)])
def test_a_pool_of_under_half_is_warned_of(
    store: Store, capsys: pytest.CaptureFixture[str], pool: int, warned: bool
) -> None:
    shown = summary_of(store, calibration(pool=pool), capsys)
    assert f"pool {pool} of 640 tokens" in shown
    assert ("warning: replies end early" in shown) is warned
