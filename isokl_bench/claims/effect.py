"""R2, R3 and R4: at its dose a method does something and breaks nothing, and at twice the dose something breaks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from isokl_bench.claims.evidence import Evidence, Key
from isokl_bench.claims.verdict import Answer, Check, Claim, Finding, at_least, every
from isokl_bench.results.effect import effect
from isokl_bench.results.table import Estimate, TableRow
from isokl_bench.results.wording import bracket, number

NLL_SAFE, NLL_BROKEN = 2.0, 4.0  # R3: NLL ratio, at most at alpha 1 and more than at alpha 2
PMASS_SAFE, PMASS_BROKEN = 0.1, -0.3  # R4: pmass change, within ± at alpha 1 and less than at alpha 2
BASE_PMASS = "base_pmass_mean"  # what Table 1 calls it
PMASS_BASE = 0.8  # R4: pmass without steering, under which a change says more of the form than of the model

Ask = Callable[[Estimate], tuple[Answer, float]]  # whether an estimate passes, and its margin


def not_too_cold(evidence: Evidence) -> Claim:
    """R2: the 95 % interval of target_logit at alpha 1 excludes 0 in every row of Table 1.

    The same of the log-ratio stands beside it: a logit falls also where both answers do."""
    published, headline = (
        Check(
            f"{quantity} at alpha 1: 95 % interval excludes 0{words}",
            "rows",
            _findings(evidence, quantity, 1, _excludes_zero),
        )
        for quantity, words in (("target_logit", ""), ("log_ratio", " (beside it; decides nothing)"))
    )
    note = "intervals: over the seeds of a row, of a single seed over prompts"
    return Claim(
        "R2", "not too cold", every(published.answers), [published, headline], [note, _sides(evidence)]
    )


def _sides(evidence: Evidence) -> str:
    """How many rows have the headline effect on which side."""
    effects = [found for _, row, _ in evidence.rows if row and (found := effect(row))]
    told = [found.mean > 0 for found in effects if found.excludes_zero]
    return (
        f"log_ratio at alpha 1, of {len(effects)} rows: {sum(told)} towards the side that was asked for, "
        f"{len(told) - sum(told)} reversed, {len(effects) - len(told)} not distinguishable from 0"
    )


def not_too_hot_nll(evidence: Evidence) -> Claim:
    """R3: the base model is hardly surprised by steered text at alpha 1, and much at alpha 2."""
    safe = _findings(evidence, "nll_ratio", 1, lambda e: (e.mean <= NLL_SAFE, NLL_SAFE - e.mean))
    broken = _findings(evidence, "nll_ratio", 2, lambda e: (e.mean > NLL_BROKEN, e.mean - NLL_BROKEN))
    return Claim.of_all(
        "R3",
        "not too hot (NLL)",
        Check(f"NLL ratio ≤ {NLL_SAFE:g} at alpha 1", "rows", safe),
        Check(f"NLL ratio > {NLL_BROKEN:g} at alpha 2 in all rows of a method", "models", _models(broken)),
    )


def not_too_hot_pmass(evidence: Evidence) -> Claim:
    """R4: an interrupted model can answer at alpha 1 as without steering, and hardly at alpha 2."""
    bases = [_base_pmass(row) for _, row, _ in evidence.rows]
    safe, broken = (
        [_judged(finding, base) for finding, base in zip(findings, bases, strict=True)]
        for findings in (
            _findings(evidence, "pmass_change", 1, _is_safe),
            _findings(evidence, "pmass_change", 2, lambda e: (e.mean < PMASS_BROKEN, PMASS_BROKEN - e.mean)),
        )
    )
    count = sum(not finding.judged for finding in safe)
    note = (
        f"{count} of {len(safe)} rows cannot be judged: without steering their pmass is under {PMASS_BASE:g}"
    )
    return Claim.of_all(
        "R4",
        "not too hot (pmass)",
        Check(f"pmass change within ±{PMASS_SAFE:g} at alpha 1", "rows", safe),
        Check(
            f"pmass change < {number(PMASS_BROKEN, 1)} at alpha 2 in all rows of a method",
            "models",
            _models(broken),
        ),
        lines=[note] if count else [],
    )


def _is_safe(estimate: Estimate) -> tuple[Answer, float]:
    return abs(estimate.mean) <= PMASS_SAFE, PMASS_SAFE - abs(estimate.mean)


def _base_pmass(row: TableRow | None) -> float | None:
    base = row.estimates.get(BASE_PMASS) if row else None
    return base.mean if base else None


def _judged(finding: Finding, base: float | None) -> Finding:
    """The finding with the pmass of the unsteered model, under which it may be impossible to judge."""
    values = {**finding.values, "base_pmass": base}
    if base is None or base >= PMASS_BASE:
        return replace(finding, values=values)
    text = f"pmass {number(base, 3)} without steering, change {finding.text}"
    return replace(finding, values=values, text=text, passes=None, judged=False)


def _excludes_zero(estimate: Estimate) -> tuple[Answer, float]:
    if estimate.low is None and estimate.high is None:
        return None, -math.inf
    above = -math.inf if estimate.low is None else estimate.low
    return estimate.excludes_zero, max(above, -math.inf if estimate.high is None else -estimate.high)


def _findings(evidence: Evidence, quantity: str, alpha: int, ask: Ask) -> list[Finding]:
    """One finding for each row of Table 1."""
    return [_finding(*row, quantity, alpha, ask) for row in evidence.rows]


def _finding(key: Key, row: TableRow | None, error: str, quantity: str, alpha: int, ask: Ask) -> Finding:
    """error: why there is no row. Where some seeds have no number, those that have one speak for the row."""
    if row is None:
        return Finding(key, {"error": error}, f"failed: {error}", None, -math.inf)
    if not row.reached:
        outcome = row.outcomes[0][0].words
        return Finding(key, {"mean": None}, f"{outcome}: nothing is measured", None, -math.inf)
    estimate = row.estimates.get(f"{quantity}_alpha{alpha}")
    if estimate is None:
        return Finding(key, {"mean": None}, f"no {quantity} at alpha {alpha} is stored", None, -math.inf)
    seeds, measured = len(row.runs), estimate.n if len(row.reached) > 1 else 1
    text = _text(estimate) + (f" over {measured} of {seeds} seeds" if measured < seeds else "")
    values = {**estimate._asdict(), "seeds": seeds, "seeds_measured": measured}
    return Finding(key, values, text, *ask(estimate))


def _text(estimate: Estimate) -> str:
    interval = bracket(estimate.low, estimate.high, partial(number, digits=3))
    return f"{number(estimate.mean, 3)} {interval or '(no interval)'}"


def _models(findings: Sequence[Finding]) -> list[Finding]:
    """One finding for each model: whether one of its methods passes in all of its rows."""
    models: dict[str, dict[str, list[Finding]]] = {}
    for finding in findings:
        models.setdefault(finding.key["model"], {}).setdefault(finding.key["method"], []).append(finding)
    return [_model(model, methods) for model, methods in models.items()]


def _model(model: str, methods: dict[str, list[Finding]]) -> Finding:
    """A method is as good as its weakest row that can be judged, a model as its best method."""
    judged = {
        method: found for method, findings in methods.items() if (found := [c for c in findings if c.judged])
    }
    if not judged:
        return Finding(
            {"model": model}, {"weakest_row": {}}, "none of its rows can be judged", None, -math.inf, False
        )
    weakest = {
        method: min(findings, key=lambda finding: finding.margin) for method, findings in judged.items()
    }
    return Finding(
        {"model": model},
        {"weakest_row": {method: finding.values.get("mean") for method, finding in weakest.items()}},
        "weakest rows: " + ", ".join(f"{method} {finding.text}" for method, finding in weakest.items()),
        at_least(1, [every([finding.passes for finding in findings]) for findings in judged.values()]),
        max(finding.margin for finding in weakest.values()),
    )
