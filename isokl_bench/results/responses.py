"""What a nat buys: the KL that each alpha of a run cost on the holdout prompts, and the effect that it had."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isokl_bench.results.curves import Points, quantiles, rounded, tokens_of
from isokl_bench.results.declared import EFFECTS, Measure, measures_of, shift_of
from isokl_bench.results.lines import Lines
from isokl_bench.results.runs import Run
from isokl_bench.results.seeds import seed_intervals
from isokl_bench.results.table import Estimate

if TYPE_CHECKING:
    from isokl_db import Store

AXIS = "kl_p95"  # the stat that effects are drawn against
ORIGIN = {"alpha": 0.0} | dict.fromkeys(("kl", "kl_low", "kl_high", "mean", "low", "high"), 0.0)

Response = dict[float, tuple[float, dict[str, Estimate]]]  # by alpha: KL in nats, effects by their family


class Responses:
    """The responses of runs, each read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[tuple[int, int], Response] = {}
        self.effects: dict[str, Measure] = {}  # by family, all that any run has

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
        kl = shift_of(self._store, run)
        if kl is None:
            return {}
        within = f"alpha > 0 AND position < {run.window}" if run.window else "alpha > 0"
        alpha, value = tokens_of(self._store, run, kl, within, "alpha").T
        if not len(alpha):
            return {}
        alphas, (kl,), _ = quantiles(alpha, value, (0.95,))
        return dict(zip(alphas.tolist(), kl.tolist(), strict=True))

    def _effects(self, run: Run) -> dict[float, dict[str, Estimate]]:
        found = self._store.query(
            "SELECT metric, quantity, alpha, mean, low, high, n FROM summaries WHERE attempt_id = :attempt "
            "AND sign = :sign AND position IS NULL AND mean IS NOT NULL",
            attempt=run.attempt,
            sign=run.sign,
        )
        stored: dict[tuple[str, str], dict[float, Estimate]] = {}
        for metric, quantity, alpha, *numbers in found.rows:
            stored.setdefault((metric, quantity), {})[alpha] = Estimate(*numbers)
        effects: dict[float, dict[str, Estimate]] = {}
        for measure in measures_of(stored):
            of_measure = stored.get((measure.metric, measure.column.quantity), {})
            if measure.column.role in EFFECTS and of_measure:
                self.effects.setdefault(measure.family, measure)
                for alpha, estimate in of_measure.items():
                    effects.setdefault(alpha, {}).setdefault(measure.family, estimate)
        return effects


@dataclass(frozen=True)
class ResponseBlock:
    """One model and behavior: for each family of effects its points, in rows of method, variant, alpha, kl, kl_low,
    kl_high, mean, low, high, prompts and seeds. budgets: targets of AXIS."""

    title: str
    effects: dict[str, Points]
    budgets: tuple[float, ...]


@dataclass(frozen=True)
class DoseResponse:
    """Everything in Figure 2. lines: what colours and dashes stand for. effects: by family, in order. seeds, prompts:
    numbers of them that points are means over."""

    blocks: list[ResponseBlock]
    lines: Lines
    alphas: list[float]
    effects: dict[str, Measure]
    seeds: set[int]
    prompts: set[int]


def dose_response(responses: Responses, lines: Lines) -> DoseResponse | None:
    """The points of the lines; None where no KL or no effect is stored."""
    blocks = []
    for title, of_block in lines.blocks.items():
        effects: dict[str, Points] = {}
        for line in of_block:
            seeds = [responses.of(run) for run in line.runs]
            for family in {family: 0 for seed in seeds for _, found in seed.values() for family in found}:
                curve = points(seeds, family)
                if not line.row.first.has_dose:
                    curve = curve[1:]  # a prompt is one point: no dose leads there from the origin
                effects.setdefault(family, []).extend(line.keys | point for point in curve)
        runs = [line.row.first for line in of_block]
        budgets = tuple(sorted({run.target for run in runs if run.stat == AXIS}))
        if effects:
            blocks.append(ResponseBlock(title, effects, budgets))
    if not blocks:
        return None
    drawn = [point for block in blocks for curve in block.effects.values() for point in curve]
    return DoseResponse(
        blocks,
        lines,
        sorted({point["alpha"] for point in drawn if point["alpha"]}),
        {
            name: effect
            for name, effect in responses.effects.items()
            if any(name in b.effects for b in blocks)
        },
        {point["seeds"] for point in drawn},
        {point["prompts"] for point in drawn},
    )


def points(seeds: Sequence[Response], family: str) -> Points:
    """One line: at each alpha the means over seeds with their intervals, of the effect over prompts for one seed; from
    the origin, which is alpha 0. Empty where nothing is stored."""
    curve: Points = []
    for alpha in sorted({alpha for seed in seeds for alpha in seed}):
        found = [
            (seed[alpha][0], seed[alpha][1][family])
            for seed in seeds
            if alpha in seed and family in seed[alpha][1]
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
