"""R2, R3 and R4: at its dose a method does something and breaks nothing, and at twice the dose something breaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from isokl_bench.claims.evidence import Evidence, Key
from isokl_bench.claims.verdict import Answer, Cell, Check, Claim, at_least, every
from isokl_bench.report.cells import number
from isokl_bench.report.table import Estimate, Row

NLL_SAFE, NLL_BROKEN = 2.0, 4.0  # R3: NLL ratio, at most at alpha 1 and more than at alpha 2
PMASS_SAFE, PMASS_BROKEN = 0.1, -0.3  # R4: pmass change, within ± at alpha 1 and less than at alpha 2

Ask = Callable[[Estimate], tuple[Answer, float]]  # whether an estimate passes, and its margin


def not_too_cold(evidence: Evidence) -> Claim:
    """R2: the 95 % interval of target_logit at alpha 1 excludes 0 in every row of Table 1."""
    cells = _cells(evidence, "target_logit", 1, _excludes_zero)
    check = Check("target_logit at alpha 1: 95 % interval excludes 0", "rows", cells)
    note = "intervals: over the seeds of a row (two or three: their range), of a single seed over prompts"
    return Claim.of_all("R2", "not too cold", check, lines=[note])


def not_too_hot_nll(evidence: Evidence) -> Claim:
    """R3: the base model is hardly surprised by steered text at alpha 1, and much at alpha 2."""
    safe = _cells(evidence, "nll_ratio", 1, lambda e: (e.mean <= NLL_SAFE, NLL_SAFE - e.mean))
    broken = _cells(evidence, "nll_ratio", 2, lambda e: (e.mean > NLL_BROKEN, e.mean - NLL_BROKEN))
    return Claim.of_all(
        "R3",
        "not too hot (NLL)",
        Check(f"NLL ratio ≤ {NLL_SAFE:g} at alpha 1", "rows", safe),
        Check(f"NLL ratio > {NLL_BROKEN:g} at alpha 2 in all rows of a method", "models", _models(broken)),
    )


def not_too_hot_pmass(evidence: Evidence) -> Claim:
    """R4: an interrupted model can answer at alpha 1 as without steering, and hardly at alpha 2."""
    safe = _cells(
        evidence, "pmass_change", 1, lambda e: (abs(e.mean) <= PMASS_SAFE, PMASS_SAFE - abs(e.mean))
    )
    broken = _cells(evidence, "pmass_change", 2, lambda e: (e.mean < PMASS_BROKEN, PMASS_BROKEN - e.mean))
    drop = number(PMASS_BROKEN, 1)
    return Claim.of_all(
        "R4",
        "not too hot (pmass)",
        Check(f"pmass change within ±{PMASS_SAFE:g} at alpha 1", "rows", safe),
        Check(f"pmass change < {drop} at alpha 2 in all rows of a method", "models", _models(broken)),
    )


def _excludes_zero(estimate: Estimate) -> tuple[Answer, float]:
    if estimate.low is None or estimate.high is None:
        return None, -math.inf
    return estimate.excludes_zero, max(estimate.low, -estimate.high)


def _cells(evidence: Evidence, quantity: str, alpha: int, ask: Ask) -> list[Cell]:
    """One cell for each row of Table 1."""
    return [_cell(*row, quantity, alpha, ask) for row in evidence.rows]


def _cell(key: Key, row: Row | None, error: str, quantity: str, alpha: int, ask: Ask) -> Cell:
    """error: why there is no row. Where some seeds have no number, those that have one speak for the row."""
    if row is None:
        return Cell(key, {"error": error}, f"failed: {error}", None, -math.inf)
    if not row.reached:
        outcome = row.outcomes[0][0].replace("_", " ")
        return Cell(key, {"mean": None}, f"{outcome}: nothing is measured", None, -math.inf)
    estimate = row.estimates.get(f"{quantity}_alpha{alpha}")
    if estimate is None:
        return Cell(key, {"mean": None}, f"no {quantity} at alpha {alpha} is stored", None, -math.inf)
    seeds, measured = len(row.runs), estimate.n if len(row.reached) > 1 else 1
    text = _text(estimate) + (f" over {measured} of {seeds} seeds" if measured < seeds else "")
    values = {**estimate._asdict(), "seeds": seeds, "seeds_measured": measured}
    return Cell(key, values, text, *ask(estimate))


def _text(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{number(estimate.mean, 3)} (no interval)"
    return f"{number(estimate.mean, 3)} [{number(estimate.low, 3)}, {number(estimate.high, 3)}]"


def _models(cells: Sequence[Cell]) -> list[Cell]:
    """One cell for each model: whether one of its methods passes in all of its rows."""
    models: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        models.setdefault(cell.key["model"], {}).setdefault(cell.key["method"], []).append(cell)
    return [_model(model, methods) for model, methods in models.items()]


def _model(model: str, methods: dict[str, list[Cell]]) -> Cell:
    """A method is as good as its weakest row, a model as its best method."""
    weakest = {method: min(cells, key=lambda cell: cell.margin) for method, cells in methods.items()}
    return Cell(
        {"model": model},
        {"weakest_row": {method: cell.values.get("mean") for method, cell in weakest.items()}},
        "weakest rows: " + ", ".join(f"{method} {cell.text}" for method, cell in weakest.items()),
        at_least(1, [every([cell.passes for cell in cells]) for cells in methods.values()]),
        max(cell.margin for cell in weakest.values()),
    )
