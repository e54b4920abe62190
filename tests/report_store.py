"""Stores with runs made by hand, for the tests of `isokl report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isokl_bench.results.runs import finished_runs
from isokl_bench.results.table1 import Table1, read_table
from isokl_db import Attempt, Calibration, Measurement, Store, Summary

Interval = tuple[float, float | None, float | None]
ALPHAS = (0.0, 1.0, 2.0)


def begin(store: Store, **changes: Any) -> Attempt:
    seed = changes.get("seed", 0)
    prompts = {
        split: [f"{split} {seed} {i}" for i in range(2)] for split in ("fit", "calibration", "holdout")
    }
    config = {
        "model": "tiny-qwen",
        "model_identity": {"source": "tiny-qwen", "sha256": "f" * 64},
        "behavior": "sentiment",
        "method": "pca",
        "stat": "kl_p95",
        "target": 1.0,
        "tolerance": 0.05,
        "protocol": "stable",
        "layers": [3],
        "window": 20,
        "seed": seed,
        "prompts": prompts,
    }
    return store.begin(config | changes, prompts=prompts, provenance={})


def calibration(
    outcome: Any = "converged", coefficient: float = 4.0, sign: Any = 1, stat: str = "kl_p95", pool: int = 600
) -> Calibration:
    return Calibration(
        sign=sign,
        stat=stat,
        target=1.0,
        tolerance=0.05,
        outcome=outcome,
        coefficient=coefficient,
        low=coefficient - 0.5,
        high=coefficient + 0.5,
        value=0.98,
        n_prompts=32,
        rounds=2,
        pool=pool,
        slope=1.96,
    )


def summary(
    metric: str, quantity: str, alpha: float, interval: Interval, n: int = 16, **more: Any
) -> Summary:
    mean, low, high = interval
    keys = {"sign": 1, "metric": metric, "quantity": quantity, "alpha": alpha, "n": n} | more
    return Summary(mean=mean, low=low, high=high, **keys)


def add(
    store: Store, *, effect: float = 1.0, coefficient: float = 4.0, outcome: str = "converged", **changes: Any
) -> int:
    """A run with everything that Table 1 shows; the numbers follow from `effect` and `coefficient`."""
    attempt = begin(store, **changes)
    attempt.commit_phase("calibrate +1", 1.0, calibrations=[calibration(outcome, coefficient)])
    if outcome in ("converged", "jump", "no_dose"):
        rows = [
            summary("validation", "holdout", 1.0, (1.1, 0.9, 1.3)),
            summary("validation", "holdout_sampled", 1.0, (1.25, 1.0, 1.5)),
        ]
        for alpha in ALPHAS:
            e = effect * alpha
            rows += [
                summary("target_logit", "log_ratio", alpha, (e, e - 0.25, e + 0.25)),
                summary(
                    "target_logit", "target_logit", alpha, (-9 * alpha, -9 * alpha - 0.5, -9 * alpha + 0.5)
                ),
                summary("base_nll", "nll_ratio", alpha, (1 + alpha / 2, 1.0, 3.0)),
                summary("branch_pmass", "pmass_mean", alpha, (0.9 - 0.05 * alpha, 0.8, 1.0)),
                summary("branch_pmass", "pmass_change", alpha, (-0.05 * alpha, -0.1 * alpha, 0.02)),
            ]
        attempt.commit_phase("metrics", 1.0, summaries=rows)
    attempt.done()
    return attempt.id


def add_curves(
    store: Store, attempt: int, tokens: int = 80, forks: Sequence[int] = (0, 5, 10), scale: float = 0.1
) -> None:
    """KL that rises by prompt and alpha, where prompt 0 ends halfway; an answer mass that falls with the fork."""
    measurements, summaries = [], []
    for alpha in (*ALPHAS, 4.0):
        for prompt in range(4):
            for token in range(tokens):
                ended = prompt == 0 and token >= tokens // 2
                value = None if ended else scale * alpha * (1 + prompt)
                key = {
                    "sign": 1,
                    "metric": "kl_trajectory",
                    "quantity": "kl",
                    "alpha": alpha,
                    "prompt": prompt,
                }
                reason = "the row has ended" if ended else None
                measurements.append(Measurement(**key, position=token, value=value, reason=reason))
        for fork in forks:
            mass = 1 - 0.1 * alpha * (1 + fork / 10)
            summaries.append(
                summary("branch_pmass", "pmass", alpha, (mass, mass - 0.1, min(1, mass + 0.1)), position=fork)
            )
    store.attempt(attempt).commit_phase("curves", 1.0, measurements=measurements, summaries=summaries)


def rows_of(store: Store, **filters: Sequence[str]) -> Table1:
    """Table 1 of the store."""
    return read_table(store, finished_runs(store, filters))
