"""What a nat buys: the KL that each alpha of a run cost on the holdout prompts, and the effect that it had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from isokl_bench.results.curves import Curve, quantiles, rounded
from isokl_bench.results.lines import Lines, series_of, windows_of
from isokl_bench.results.runs import Run
from isokl_bench.results.seeds import seed_intervals
from isokl_bench.results.table import Estimate

if TYPE_CHECKING:
    from isokl_db import Store

EFFECTS = ("log_ratio", "final_log_ratio")
ORIGIN = {"alpha": 0.0} | dict.fromkeys(("kl", "kl_low", "kl_high", "mean", "low", "high"), 0.0)

Response = dict[float, tuple[float, dict[str, Estimate]]]  # by alpha: KL in nats, effects by their name


class Responses:
    """The responses of runs, each read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[tuple[int, int], Response] = {}

    def of(self, run: Run) -> Response:
        """By each alpha above 0 at which both are stored, in order: the KL and the effects.

        The KL is the 95th percentile (linear interpolation) of the per-token KL pooled over holdout prompts and the
        first tokens, as many as the run was calibrated on."""
        key = run.attempt, run.sign
        if key not in self._read:
            kl = self._kl(run)
            effects = self._effects(run) if kl else {}
            self._read[key] = {alpha: (kl[alpha], effects[alpha]) for alpha in sorted(kl.keys() & effects)}
        return self._read[key]

    def _kl(self, run: Run) -> dict[float, float]:
        within = f"AND position < {run.window}" if run.window else ""
        found = self._store.query(
            "SELECT alpha, value FROM measurements WHERE metric = 'kl_trajectory' AND quantity = 'kl' "
            f"AND attempt_id = :attempt AND sign = :sign AND alpha > 0 {within} AND value IS NOT NULL",
            attempt=run.attempt,
            sign=run.sign,
        )
        if not found.rows:
            return {}
        alpha, value = np.array(found.rows, dtype=float).T
        alphas, (kl,), _ = quantiles(alpha, value, (0.95,))
        return dict(zip(alphas.tolist(), kl.tolist(), strict=True))

    def _effects(self, run: Run) -> dict[float, dict[str, Estimate]]:
        found = self._store.query(
            "SELECT alpha, quantity, mean, low, high, n FROM summaries WHERE metric = 'target_logit' "
            "AND attempt_id = :attempt AND sign = :sign AND mean IS NOT NULL",
            attempt=run.attempt,
            sign=run.sign,
        )
        effects: dict[float, dict[str, Estimate]] = {}
        for alpha, quantity, *estimate in found.rows:
            effects.setdefault(alpha, {})[quantity] = Estimate(*estimate)
        return effects


@dataclass(frozen=True)
class Panels:
    """One model and behavior: for each effect its points, in rows of series, window, alpha, kl, kl_low, kl_high, mean,
    low, high, prompts and seeds. budgets: targets of kl_p95, in nats."""

    title: str
    effects: dict[str, Curve]
    budgets: tuple[float, ...]


@dataclass(frozen=True)
class DoseResponse:
    """Everything in Figure 2. effects: those that are stored, in order. seeds, prompts: numbers of them that points are
    means over."""

    blocks: list[Panels]
    series: list[str]
    windows: list[str]
    alphas: list[float]
    effects: list[str]
    seeds: set[int]
    prompts: set[int]


def dose_response(responses: Responses, lines: Lines) -> DoseResponse | None:
    """The points of the lines; None where no KL or no effect is stored."""
    blocks = []
    for title, of_block in lines.blocks.items():
        effects: dict[str, Curve] = {name: [] for name in EFFECTS}
        for line in of_block:
            for name, curve in effects.items():
                found = points([responses.of(run) for run in line.runs], name)
                if not line.row.first.has_dose:
                    found = found[1:]  # a prompt is one point: no dose leads there from the origin
                curve += [line.keys | point for point in found]
        runs = [line.row.first for line in of_block]
        budgets = tuple(sorted({run.target for run in runs if run.stat == "kl_p95"}))
        if any(effects.values()):
            blocks.append(Panels(title, effects, budgets))
    if not blocks:
        return None
    drawn = [point for block in blocks for curve in block.effects.values() for point in curve]
    return DoseResponse(
        blocks,
        series_of(drawn),
        windows_of(drawn),
        sorted({point["alpha"] for point in drawn if point["alpha"]}),
        [name for name in EFFECTS if any(block.effects[name] for block in blocks)],
        {point["seeds"] for point in drawn},
        {point["prompts"] for point in drawn},
    )


def points(seeds: Sequence[Response], name: str) -> Curve:
    """One line: at each alpha the means over seeds with their intervals, of the effect over prompts for one seed; from
    the origin, which is alpha 0. Empty where nothing is stored."""
    curve: Curve = []
    for alpha in sorted({alpha for seed in seeds for alpha in seed}):
        found = [
            (seed[alpha][0], seed[alpha][1][name])
            for seed in seeds
            if alpha in seed and name in seed[alpha][1]
        ]
        if not found:
            continue
        kl, effect = (found[0][0],) * 3, found[0][1][:3]
        if len(found) > 1:
            kl, effect = seed_intervals([[kl for kl, _ in found], [effect.mean for _, effect in found]])
            kl = kl[0], max(kl[1], 0.0), kl[2]
        elif None in effect:  # a bar that is open has no end to be drawn to
            effect = effect[0], None, None
        numbers = zip(("kl", "kl_low", "kl_high", "mean", "low", "high"), (*kl, *effect), strict=True)
        curve.append(
            {"alpha": alpha, "seeds": len(found), "prompts": found[0][1].n}
            | {key: None if value is None else rounded(value) for key, value in numbers}
        )
    return [ORIGIN | {"seeds": curve[0]["seeds"], "prompts": curve[0]["prompts"]}, *curve] if curve else []
