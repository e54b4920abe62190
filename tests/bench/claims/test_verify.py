"""`isokl verify`: each claim holds, fails or cannot be told, on stores made by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from isokl_bench.claims.evidence import read_evidence
from isokl_bench.claims.judge import judge
from isokl_bench.claims.verdict import Answer, Claim, at_least, every, two_thirds
from isokl_bench.cli import invoke
from isokl_bench.cli.verify import verify
from isokl_db import INTERRUPTED, Attempt, Calibration, Measurement, Store, StoreError, Summary
from isokl_registry import IsoklError

MODELS, METHODS = ("gemma", "llama", "qwen"), ("ablation", "mean_diff", "pca")
GRID = {"model": MODELS, "method": METHODS, "seed": (0, 1), "window": (20, 50)}
Interval = tuple[float, float, float]


def begin(store: Store, **changes: Any) -> Attempt:
    config = {
        "model": "qwen",
        "behavior": "sentiment",
        "method": "pca",
        "stat": "kl_p95",
        "target": 1.0,
        "protocol": "stable",
        "layers": [3],
        "window": 20,
        "seed": 0,
    }
    return store.begin(config | changes, prompts={}, provenance={})


def summary(metric: str, quantity: str, alpha: float, interval: Interval) -> Summary:
    mean, low, high = interval
    keys: dict[str, Any] = {"sign": 1, "metric": metric, "quantity": quantity, "alpha": alpha, "n": 8}
    return Summary(mean=mean, low=low, high=high, **keys)


def kl(alpha: float, position: int, scale: float) -> list[Measurement]:
    """Of 21 prompts, evenly from 0 to `scale`: their 95th percentile is 0.95 of it."""
    keys: dict[str, Any] = {"sign": 1, "metric": "kl_trajectory", "quantity": "kl", "alpha": alpha}
    return [Measurement(**keys, position=position, prompt=i, value=scale * i / 20) for i in range(21)]


def add(
    store: Store,
    *,
    outcome: str = "converged",
    holdout: float | None = 1.0,
    target_logit: Interval | None = (1.0, 0.5, 1.5),
    log_ratio: Interval | None = (1.0, 0.5, 1.5),
    nll: tuple[float, float] | None = (1.5, 6.0),
    pmass: tuple[float, float] | None = (-0.05, -0.5),
    base_pmass: float | None = 0.9,
    peak: float | None = 2.0,
    **changes: Any,
) -> None:
    """A finished run; nll and pmass at alpha 1 and 2, None for what is not stored. As it is, all claims hold."""
    budget: dict[str, Any] = {"stat": changes.get("stat", "kl_p95"), "target": changes.get("target", 1.0)}
    found: dict[str, Any] = {
        "outcome": outcome,
        "coefficient": 4.0,
        "value": 1.0,
        "rounds": 1,
        "n_prompts": 8,
        "slope": 2.25,
    }
    rows, measurements = [], []
    if holdout is not None:
        rows.append(summary("validation", "holdout", 1.0, (holdout, holdout, holdout)))
        rows.append(summary("validation", "holdout_sampled", 1.0, (9.0, 9.0, 9.0)))
    for quantity, effect in (("target_logit", target_logit), ("log_ratio", log_ratio)):
        if effect is not None:
            rows.append(summary("target_logit", quantity, 1.0, effect))
    if base_pmass is not None:
        rows.append(summary("branch_pmass", "pmass_mean", 0.0, (base_pmass, base_pmass, base_pmass)))
    for metric, quantity, values in (("base_nll", "nll_ratio", nll), ("branch_pmass", "pmass_change", pmass)):
        for alpha, value in zip((1.0, 2.0), values or (), strict=False):
            rows.append(summary(metric, quantity, alpha, (value, value, value)))
    if peak is not None:
        measurements = kl(2.0, 3, 0.1) + kl(2.0, 49, peak / 0.95) + kl(2.0, 50, 99.0) + kl(1.0, 3, 99.0)
    attempt = begin(store, **changes)
    calibration = Calibration(sign=1, tolerance=0.05, **budget, **found)
    attempt.commit_phase("all", 1.0, calibrations=[calibration], summaries=rows, measurements=measurements)
    attempt.done()


def add_grid(store: Store, **values: Any) -> None:
    """A run for each combination of GRID, where `values` may replace or add dimensions."""
    dimensions = GRID | {name: value for name, value in values.items() if isinstance(value, tuple)}
    for combination in product(*dimensions.values()):
        add(store, **dict(zip(dimensions, combination, strict=True)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "isokl.db") as opened:
        yield opened


def claim(store: Store, id: str, protocol: str = "stable", **filters: list[str]) -> Claim:
    return next(c for c in judge(read_evidence(store, protocol, filters)) if c.id == id)


def isokl_verify(store: Store | str, *arguments: str) -> Result:
    name = store if isinstance(store, str) else store.name
    return CliRunner().invoke(verify, ["--db", name, *arguments], catch_exceptions=False)


# -- answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ([True, True, False], True),
        ([True, None, False], None),
        ([True, True, None], True),
        ([None, False, False], False),
        ([], None),
    ],
)
def test_at_least_two_answers(answers: list[Answer], wanted: Answer) -> None:
    assert at_least(2, answers) is wanted
    assert two_thirds(answers) is wanted


def test_every_answer() -> None:
    assert every([True, True]) is True
    assert every([True, None]) is None
    assert every([True, None, False]) is False
    assert every([]) is None


@pytest.mark.parametrize(("count", "needed"), [(3, 2), (4, 3), (5, 4), (6, 4)])
def test_two_thirds_is_rounded_up(count: int, needed: int) -> None:
    for yes in (needed - 1, needed):
        answers: list[Answer] = [True] * yes + [False] * (count - yes)
        assert two_thirds(answers) is (yes == needed)


# -- all of them ---------------------------------------------------------------------------------------


def test_all_claims_hold(store: Store) -> None:
    add_grid(store)
    result = isokl_verify(store)
    assert result.exit_code == 0
    assert result.output.endswith("\n6 of 6 claims hold.\n")
    assert result.output.startswith(
        "Protocol stable, budget kl_p95 = 1 nat: 36 runs (3 models, 3 methods, 2 windows, 2 seeds)\n\n"
        "R1  calibration converges and generalises: holds\n"
    )
    assert [line for line in result.output.splitlines() if ": holds" in line][1:] == [
        "R2  not too cold: holds",
        "R3  not too hot (NLL): holds",
        "R4  not too hot (pmass): holds",
        "R5  the probe bites: holds",
        "R6  stability over seeds and windows: holds",
    ]
    found = json.loads(isokl_verify(store, "--json").output)
    assert (found["protocol"], found["runs"], found["holds"]) == ("stable", 36, True)
    assert [c["verdict"] for c in found["claims"]] == ["holds"] * 6
    assert [len(c["cells"]) for c in found["claims"]] == [36, 36, 21, 21, 39, 9]
    assert found["claims"][0]["cells"][0] == {
        "condition": "converged, and holdout kl_p95 in [0.7, 1.4]",
        "model": "gemma",
        "behavior": "sentiment",
        "method": "ablation",
        "sign": "+",
        "layers": "3",
        "window": 20,
        "seed": 0,
        "values": {"outcome": "converged", "holdout": 1.0, "slope": 2.25},
        "passes": True,
        "judged": True,
        "text": "converged, holdout 1.000, slope 2.2",
    }


def test_one_claim_fails(store: Store) -> None:
    add_grid(store)
    add(store, behavior="honesty", pmass=(-0.2, -0.5))
    result = isokl_verify(store)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert "R4  not too hot (pmass): fails" in lines
    assert "    pmass change within ±0.1 at alpha 1: 18 of 19 rows" in lines
    at = lines.index("    pmass change within ±0.1 at alpha 1: 18 of 19 rows")
    assert lines[at + 1] == "      fails    qwen · honesty · pca · window 20  −0.200 [−0.200, −0.200]"
    assert "R6  stability over seeds and windows: not enough runs" in lines
    assert lines[-1] == "4 of 6 claims hold."


def test_an_empty_store_has_not_enough_runs(store: Store) -> None:
    result = isokl_verify(store)
    assert result.exit_code == 1
    assert result.output.count(": not enough runs") == 6
    assert "no run of protocol stable with the budget kl_p95 = 1 has ended" in result.output
    assert result.output.endswith("\n0 of 6 claims hold.\n")
    found = json.loads(isokl_verify(store, "--json", "--protocol", "published").output)
    assert [c["missing"][0][:30] for c in found["claims"]] == ["no run of protocol published w"] * 6


def test_no_run_of_the_protocol(store: Store) -> None:
    add(store, protocol="published")
    assert isokl_verify(store).output.count(": not enough runs") == 6
    assert (
        "R1  calibration converges and generalises: holds"
        in isokl_verify(store, "--protocol", "published").output
    )


def test_what_is_left_out_is_counted(store: Store) -> None:
    add(store)
    add(store, stat="nll", target=0.1, holdout=9.0)
    add(store, target=2.0, holdout=9.0)
    add(store, protocol="published", stat="nll", target=0.1)
    begin(store, seed=1)
    begin(store, seed=2).fail(INTERRUPTED)
    begin(store, seed=3).skip("no such device")
    assert claim(store, "R1").answer is True
    lines = isokl_verify(store).output.splitlines()
    assert lines[:2] == [
        "Protocol stable, budget kl_p95 = 1 nat: 1 run",
        "Left out: 2 of another budget, 3 not finished",
    ]


# -- R1 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "holdout", "answer"),
    [
        ("converged", 0.7, True),
        ("converged", 1.4, True),
        ("converged", 0.699, False),
        ("converged", 1.401, False),
        ("converged", None, None),
        ("jump", 1.0, False),
        ("budget_not_reached", None, False),
    ],
)
def test_r1_of_one_run(store: Store, outcome: str, holdout: float | None, answer: Answer) -> None:
    add(store)
    add(store, seed=1, outcome=outcome, holdout=holdout)
    assert claim(store, "R1").answer is answer


def test_r1_says_how_steep_the_runs_are_that_fail(store: Store) -> None:
    add(store)
    add(store, seed=1, holdout=1.9)
    lines = isokl_verify(store).output.splitlines()
    assert "      fails    qwen · pca · seed 1  converged, holdout 1.900, slope 2.2" in lines
    assert any(
        line.startswith("    slope, d log stat / d log dose at the target: 2.2 to 2.2") for line in lines
    )


def test_r1_counts_a_config_that_only_failed(store: Store) -> None:
    add(store)
    begin(store).fail("no memory")  # which is done as well
    begin(store, seed=1).fail("no memory")
    begin(store, seed=1).fail("NaN at layer 3")
    found = claim(store, "R1")
    (failing,) = found.checks[0].of(False)
    assert (failing.key["seed"], failing.text) == (1, "failed: NaN at layer 3")
    assert found.numbers["outcomes"] == {"converged": 1, "failed": 1}


def test_r1_shares_by_protocol(store: Store) -> None:
    for seed, (outcome, holdout) in enumerate([("converged", 1.0), ("jump", 1.0), ("jump", 0.5)]):
        add(store, seed=seed, outcome=outcome, holdout=holdout)
    add(store, protocol="published", holdout=2.0)
    assert claim(store, "R1").lines == [
        "outcomes: jump 2 of 3 (67%), converged 1 of 3 (33%)",
        "holdout in [0.7, 1.4]: stable 2 of 3 (67%), published 0 of 1 (0%)",
        (
            "slope, d log stat / d log dose at the target: 2.2 to 2.2, median 2.2 (theory: 2; the steeper, the worse a "
            "coefficient fits other prompts)"
        ),
    ]
    in_band = claim(store, "R1", "published").numbers["in_band"]
    assert in_band == {"published": {"in": 0, "of": 1}, "stable": {"in": 2, "of": 3}}


# -- R2, R3, R4 ----------------------------------------------------------------------------------------


def test_r2_needs_intervals_without_zero(store: Store) -> None:
    add(store)
    add(store, window=50, target_logit=(-1.0, -1.5, -0.1))
    assert claim(store, "R2").answer is True
    add(store, method="mean_diff", target_logit=(1.0, -0.1, 2.0))
    found = claim(store, "R2")
    assert found.answer is False
    assert [(finding.key["method"], finding.text) for finding in found.checks[0].of(False)] == [
        ("mean_diff", "1.000 [−0.100, 2.000]")
    ]


def test_r2_is_decided_by_the_logit_and_has_the_log_ratio_beside_it(store: Store) -> None:
    add(store, target_logit=(-2.0, -3.0, -1.0), log_ratio=(0.1, -1.0, 1.0))
    add(store, window=50, log_ratio=(-1.0, -2.0, -0.5))
    found = claim(store, "R2")
    assert found.answer is True
    assert [(finding.key["window"], finding.text) for finding in found.checks[1].of(False)] == [
        (20, "0.100 [−1.000, 1.000]")
    ]
    assert found.lines[1] == (
        "log_ratio at alpha 1, of 2 rows: 0 towards the side that was asked for, 1 reversed, 1 not distinguishable from 0"
    )
    add(store, method="mean_diff", target_logit=(0.0, -1.0, 1.0))
    assert claim(store, "R2").answer is False


@pytest.mark.parametrize(
    ("interval", "answer", "text"),
    [
        ((1.0, 0.2, None), True, "1.000 [0.200, open]"),
        ((1.0, None, 3.0), False, "1.000 [open, 3.000]"),
        ((1.0, None, None), None, "1.000 (no interval)"),
    ],
)
def test_r2_takes_an_end_that_is_open_for_what_it_is(
    store: Store, interval: Any, answer: bool | None, text: str
) -> None:
    add(store, target_logit=interval)
    (finding,) = claim(store, "R2").checks[0].findings
    assert (finding.passes, finding.text) == (answer, text)


def test_r2_takes_seeds_together(store: Store) -> None:
    add(store, target_logit=(1.0, 0.9, 1.1))
    add(store, seed=1, target_logit=(-0.5, -0.6, -0.4))
    (finding,) = claim(store, "R2").checks[0].findings
    half = 12.706205 * 0.75  # of 1 and −0.5
    found = [finding.values[name] for name in ("mean", "low", "high")]
    assert found == pytest.approx([0.25, 0.25 - half, 0.25 + half])
    assert finding.passes is False
    assert "seed" not in finding.key
    add(store, seed=2, target_logit=None)
    add(store, seed=3, outcome="budget_exceeded", target_logit=None)
    (finding,) = claim(store, "R2").checks[0].findings
    assert finding.text == "0.250 [−9.280, 9.780] over 2 of 4 seeds"


@pytest.mark.parametrize("id", ["R2", "R3", "R4", "R5"])
def test_what_was_not_measured_is_named(store: Store, id: str) -> None:
    for model, method in product(MODELS, METHODS):
        if (model, method) != ("qwen", "pca"):
            add(store, model=model, method=method)
    add(store, target_logit=None, nll=None, pmass=None, peak=None)
    found = claim(store, id)
    assert found.answer is (True if id == "R5" else None)
    (finding,) = found.checks[0].of(None)
    assert (finding.key["model"], finding.key["method"]) == ("qwen", "pca")
    quantity = {"R2": "target_logit", "R3": "nll_ratio", "R4": "pmass_change", "R5": "kl_trajectory"}[id]
    assert finding.text == f"no {quantity} at alpha {2 if id == 'R5' else 1} is stored"


@pytest.mark.parametrize("id", ["R2", "R3", "R4", "R5"])
def test_a_budget_that_is_not_reached_leaves_nothing_to_judge(store: Store, id: str) -> None:
    add(store, outcome="budget_not_reached", holdout=None, target_logit=None, nll=None, pmass=None, peak=None)
    found = claim(store, id)
    assert found.answer is None
    assert found.checks[0].findings[0].text == "budget not reached: nothing is measured"


def test_a_config_that_failed_leaves_its_row_open(store: Store) -> None:
    add(store)
    begin(store, seed=1).fail("no memory")  # a seed of a row that there is
    assert claim(store, "R2").answer is True
    begin(store, window=50).fail("no memory")
    (finding,) = claim(store, "R2").checks[0].of(None)
    assert (finding.key["window"], finding.text) == (50, "failed: no memory")
    add(store, method="mean_diff", target_logit=(0.0, -1.0, 1.0))
    assert claim(store, "R2").answer is False


@pytest.mark.parametrize(
    ("id", "quantity", "values", "answer"),
    [
        ("R3", "nll", (2.0, 4.001), True),
        ("R3", "nll", (2.001, 9.0), False),
        ("R3", "nll", (1.0, 4.0), False),
        ("R3", "nll", (1.0,), None),
        ("R4", "pmass", (-0.1, -0.301), True),
        ("R4", "pmass", (0.1, -0.301), True),
        ("R4", "pmass", (-0.101, -0.9), False),
        ("R4", "pmass", (0.101, -0.9), False),
        ("R4", "pmass", (0.0, -0.3), False),
        ("R4", "pmass", (0.0, 0.9), False),
    ],
)
def test_limits_of_r3_and_r4(store: Store, id: str, quantity: str, values: Any, answer: Answer) -> None:
    add(store, **{quantity: values})
    assert claim(store, id).answer is answer


def test_r4_judges_no_row_whose_form_is_at_fault(store: Store) -> None:
    add(store, base_pmass=0.8)
    add(store, behavior="honesty", base_pmass=0.55, pmass=(0.2, 0.1))
    found = claim(store, "R4")
    assert found.answer is True
    assert found.lines == ["1 of 2 rows cannot be judged: without steering their pmass is under 0.8"]
    lines = isokl_verify(store).output.splitlines()
    assert "    pmass change within ±0.1 at alpha 1: 1 of 1 rows" in lines
    assert (
        "      cannot be judged qwen · honesty · pca  pmass 0.550 without steering, change 0.200 [0.200, 0.200]"
        in lines
    )
    add(store, behavior="authority", pmass=(-0.2, -0.5))
    assert claim(store, "R4").answer is False


def test_r4_cannot_be_judged_where_no_row_can(store: Store) -> None:
    add(store, base_pmass=0.799)
    found = claim(store, "R4")
    assert (found.answer, found.verdict) == (None, "cannot be judged")
    assert found.checks[1].findings[0].text == "none of its rows can be judged"
    assert json.loads(isokl_verify(store, "--json").output)["claims"][3]["numbers"]["conditions"] == {
        check.condition: {"pass": 0, "fail": 0, "unknown": 0, "not_judged": 1} for check in found.checks
    }


def test_r4_is_judged_where_the_base_is_not_known(store: Store) -> None:
    add(store, base_pmass=None)
    assert claim(store, "R4").answer is True


def test_r3_needs_one_method_per_model_that_breaks_in_all_its_rows(store: Store) -> None:
    for model, method, window, nll in (
        ("qwen", "pca", 20, 6.0),
        ("qwen", "pca", 50, 3.0),
        ("qwen", "mean_diff", 20, 3.0),
        ("qwen", "mean_diff", 50, 6.0),
    ):
        add(store, model=model, method=method, window=window, nll=(1.0, nll))
    found = claim(store, "R3")
    assert found.answer is False
    (finding,) = found.checks[1].findings
    assert finding.values["weakest_row"] == {"mean_diff": 3.0, "pca": 3.0}
    add(store, method="ablation", nll=(1.0, 5.0))
    assert claim(store, "R3").answer is True
    add(store, model="llama", nll=(1.0, 3.0))
    assert claim(store, "R3").answer is False


# -- R5 ------------------------------------------------------------------------------------------------


def probe(store: Store, biting: dict[str, int]) -> None:
    """For each model, how many of its three methods pass 1 nat."""
    for model, count in biting.items():
        for i, method in enumerate(METHODS):
            add(store, model=model, method=method, peak=1.5 if i < count else 1.0)


@pytest.mark.parametrize(
    ("biting", "answer"),
    [
        ({"gemma": 2, "llama": 2, "qwen": 0}, True),
        ({"gemma": 3, "llama": 1, "qwen": 1}, False),
        ({"gemma": 3, "llama": 3}, None),
        ({"a": 3, "b": 2, "c": 0, "d": 0}, False),
        ({"a": 3, "b": 2, "c": 2, "d": 0}, True),
    ],
)
def test_r5_needs_two_thirds_of_two_thirds(store: Store, biting: dict[str, int], answer: Answer) -> None:
    probe(store, biting)
    assert claim(store, "R5").answer is answer


def test_r5_takes_the_highest_token_of_the_first_fifty(store: Store) -> None:
    add(store, peak=1.9)
    found = claim(store, "R5")
    (finding,) = found.checks[0].findings
    assert finding.values["kl"] == pytest.approx(1.9)
    assert finding.values["token"] == 49
    assert found.missing == ["1 of 3 models that it needs"]


def test_r5_counts_a_method_only_when_all_its_runs_bite(store: Store) -> None:
    probe(store, {"gemma": 2, "llama": 2, "qwen": 0})
    add(store, model="llama", method="mean_diff", seed=1, peak=0.5)
    found = claim(store, "R5")
    assert found.answer is False
    assert [finding.text for finding in found.checks[1].findings] == [
        "2 of 3 methods: ablation, mean_diff",
        "1 of 3 methods: ablation",
        "0 of 3 methods",
    ]


def test_r5_needs_three_methods(store: Store) -> None:
    for model, method in product(MODELS, METHODS[:2]):
        add(store, model=model, method=method)
    found = claim(store, "R5")
    assert found.answer is None
    assert found.checks[1].findings[0].text == "2 of 2 methods (3 are needed): ablation, mean_diff"


# -- R6 ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holdouts", "answer"),
    [
        ({20: (0.75, 1.0), 50: (1.3, 1.0)}, True),
        ({20: (0.75, 1.0, 1.1)}, False),
        ({20: (0.75, 1.0)}, None),
        ({20: (0.75, 1.0), 50: (1.0,)}, None),
        ({20: (0.75, 1.0), 50: (0.6, 0.9)}, False),  # R1's verdict changes
        ({20: (0.25, 0.5), 50: (0.6, 0.65)}, True),  # it fails everywhere
        ({20: (0.75, 1.0), 50: (0.75, 1.25)}, False),
        ({20: (0.25, None), 50: (0.25, 0.5)}, None),
        ({20: (0.25, 0.5, None), 50: (0.25, 0.5)}, None),
    ],
)
def test_r6(store: Store, holdouts: dict[int, tuple[float | None, ...]], answer: Answer) -> None:
    for window, values in holdouts.items():
        for seed, holdout in enumerate(values):
            outcome = "converged" if holdout else "budget_not_reached"
            add(store, window=window, seed=seed, holdout=holdout, outcome=outcome)
    assert claim(store, "R6").answer is answer


def test_r6_limit_is_not_narrower_than_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isokl_bench.claims.calibration.SPREAD", 0.25)
    for seed, window in product((0, 1), (20, 50)):
        add(store, seed=seed, window=window, holdout=1.0 + 0.25 * seed)
    found = claim(store, "R6")
    assert found.answer is False
    assert found.checks[0].findings[0].text == (
        "R1 holds in 4 of 4; seeds 0.250 apart at window 20, seeds 0.250 apart at window 50"
    )


# -- the command ---------------------------------------------------------------------------------------


def test_filters(store: Store) -> None:
    add(store)
    add(store, method="mean_diff", holdout=0.1)
    add(store, model="llama", holdout=0.1)
    begin(store, model="gemma").fail("no memory")
    assert claim(store, "R1").answer is False
    assert claim(store, "R1", model=["qwen"], method=["pca"]).answer is True
    assert len(claim(store, "R1", model=["qwen", "llama"]).checks[0].findings) == 3
    assert len(claim(store, "R1", model=["gemma"]).checks[0].findings) == 1
    with pytest.raises(IsoklError, match="unknown model among the runs selected 'qwem': did you mean 'qwen'"):
        isokl_verify(store, "--model", "qwem")
    result = isokl_verify(store, "--protocol", "steady")
    assert result.exit_code == 2
    assert "'stable', 'published'" in result.output


def test_runs_that_differ_elsewhere_are_told_apart(store: Store) -> None:
    add(store, dtype="float32")
    add(store, dtype="bfloat16", holdout=0.1)
    shown = isokl_verify(store).output
    assert "2 runs (2 dtypes)" in shown
    assert "fails    qwen · pca · dtype bfloat16  converged, holdout 0.100" in shown


def test_both_signs_are_judged(store: Store) -> None:
    attempt = begin(store)
    budget: dict[str, Any] = {"stat": "kl_p95", "target": 1.0, "tolerance": 0.05, "value": 1.0}
    both = [
        Calibration(sign=1, outcome="converged", coefficient=4.0, rounds=1, n_prompts=8, **budget),
        Calibration(sign=-1, outcome="jump", coefficient=4.0, rounds=1, n_prompts=8, **budget),
    ]
    attempt.commit_phase("calibrate", 1.0, calibrations=both)
    attempt.done()
    findings = claim(store, "R1").checks[0].findings
    assert sorted((finding.key["sign"], finding.passes) for finding in findings) == [
        ("+", None),
        ("−", False),
    ]


def test_long_lists_are_cut(store: Store) -> None:
    for seed in range(11):
        add(store, seed=seed, holdout=0.1 + seed / 100)
    lines = isokl_verify(store).output.splitlines()
    assert sum("converged, holdout 0." in line for line in lines) == 8
    assert "      … and 3 more (--json has all)" in lines
    assert "holdout 0.100" in lines[lines.index("      … and 3 more (--json has all)") - 8]  # the worst first


def test_exit_codes_reach_the_shell(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["verify", "--db", store.name]) == 1
    add_grid(store)
    assert invoke(["verify", "--db", store.name]) == 0
    assert "\x1b[" not in capsys.readouterr().out
    with pytest.raises(StoreError, match=r"no database at nope\.db"):
        isokl_verify("nope.db")


def test_the_command_is_light_to_import() -> None:
    heavy = "{'altair', 'pandas', 'vl_convert', 'sqlalchemy', 'rich', 'numpy', 'torch'}"
    places = [str(Path(__file__).parents[3] / part) for part in ("", "plugins", "registry", "db")]
    for module, allowed in (("cli.verify", set()), ("claims.judge", {"numpy", "sqlalchemy"})):
        script = f"import sys; sys.path[:0] = {places!r}; import isokl_bench.{module}; print(*{heavy} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert set(done.stdout.split()) <= allowed
