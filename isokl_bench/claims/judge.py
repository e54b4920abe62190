"""All claims at once, and the judgement as plain values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isokl_bench.claims.calibration import converges, repeats
from isokl_bench.claims.effect import not_too_cold, not_too_hot_nll, not_too_hot_pmass
from isokl_bench.claims.evidence import BUDGET, Evidence
from isokl_bench.claims.probe import bites
from isokl_bench.claims.verdict import Claim

CLAIMS = (converges, not_too_cold, not_too_hot_nll, not_too_hot_pmass, bites, repeats)
ANSWERS = {"pass": True, "fail": False, "unknown": None}


def judge(evidence: Evidence) -> list[Claim]:
    """R1 to R6."""
    claims = [claim(evidence) for claim in CLAIMS]
    if evidence.subjects:
        return claims
    stat, target = BUDGET
    nothing = f"no run of protocol {evidence.protocol} with the budget {stat} = {target:g} has ended"
    return [replace(claim, missing=[nothing]) for claim in claims]


def as_dict(evidence: Evidence, claims: list[Claim]) -> dict[str, Any]:
    """The judgement with every finding, for --json."""
    stat, target = BUDGET
    return {
        "protocol": evidence.protocol,
        "budget": {"stat": stat, "target": target},
        "runs": len(evidence.subjects),
        "left_out": evidence.left_out,
        "holds": all(claim.answer for claim in claims),
        "claims": [_claim(claim) for claim in claims],
    }


def _claim(claim: Claim) -> dict[str, Any]:
    counts = {
        check.condition: {name: len(check.of(answer)) for name, answer in ANSWERS.items()}
        | {"not_judged": len(check.not_judged)}
        for check in claim.checks
    }
    findings = [
        {
            "condition": check.condition,
            **finding.key,
            "values": finding.values,
            "passes": finding.passes,
            "judged": finding.judged,
            "text": finding.text,
        }
        for check in claim.checks
        for finding in check.findings
    ]
    return {
        "id": claim.id,
        "title": claim.title,
        "verdict": claim.verdict,
        "numbers": {"conditions": counts, **claim.numbers},
        "missing": claim.missing,
        "cells": findings,
    }
