"""R5: does twice the dose show in the KL of single tokens?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from isokl_bench.claims.evidence import Evidence, Subject
from isokl_bench.claims.verdict import Answer, Check, Claim, Finding, every, two_thirds
from isokl_bench.results.curves import quantiles
from isokl_bench.results.declared import shift_of

if TYPE_CHECKING:
    from isokl_bench.results.runs import Run
    from isokl_db import Store

BITE = 1.0  # R5: nats, exceeded by the 95th percentile over prompts at some token
TOKENS, ALPHA = 50, 2
LEAST = 3  # R5: methods on a model, and models; two thirds of them must bite

_KL = """
    SELECT position, value FROM measurements WHERE attempt_id = :attempt AND metric = :metric
    AND quantity = :quantity AND alpha = :alpha AND sign = :sign AND position < :tokens AND value IS NOT NULL
"""


def bites(evidence: Evidence) -> Claim:
    """R5: at alpha 2 the KL of some token passes 1 nat, in two thirds of the methods on two thirds of the models."""
    runs = [_run(evidence.store, subject) for subject in evidence.subjects]
    models: dict[str, dict[str, list[Answer]]] = {}
    for finding in runs:
        models.setdefault(finding.key["model"], {}).setdefault(finding.key["method"], []).append(
            finding.passes
        )
    findings = [_model(model, methods) for model, methods in models.items()]
    few = len(findings) < LEAST
    return Claim(
        "R5",
        "the probe bites",
        None if few else two_thirds([finding.passes for finding in findings]),
        [
            Check(
                f"KL of a token > {BITE:g} nat at alpha {ALPHA} (95th percentile over prompts)", "runs", runs
            ),
            Check("at least two thirds of its methods do so in all of their runs", "models", findings),
        ],
        [f"holds when at least two thirds of the models pass; tokens: the first {TOKENS} of a text"],
        missing=[f"{len(findings)} of {LEAST} models that it needs"] if few else [],
    )


def _model(model: str, methods: dict[str, list[Answer]]) -> Finding:
    """A method bites when all its runs do."""
    answers = {method: every(runs) for method, runs in methods.items()}
    few = len(answers) < LEAST
    biting = [method for method, answer in answers.items() if answer]
    text = f"{len(biting)} of {len(answers)} methods{f' ({LEAST} are needed)' if few else ''}"
    return Finding(
        {"model": model},
        {"methods": answers},
        f"{text}: {', '.join(biting)}" if biting else text,
        None if few else two_thirds(list(answers.values())),
        float(len(biting)),
    )


def _run(store: Store, subject: Subject) -> Finding:
    if subject.run is None:
        return Finding(subject.key, {"error": subject.error}, f"failed: {subject.error}", None, -math.inf)
    if not subject.run.reached:
        outcome = subject.run.outcome.words
        return Finding(subject.key, {"kl": None}, f"{outcome}: nothing is measured", None, -math.inf)
    found = _peak(store, subject.run)
    if found is None:
        return Finding(
            subject.key, {"kl": None}, f"no kl_trajectory at alpha {ALPHA} is stored", None, -math.inf
        )
    token, kl = found
    values: dict[str, Any] = {"kl": kl, "token": token}
    return Finding(subject.key, values, f"{kl:.3f} nat at token {token}", kl > BITE, kl - BITE)


def _peak(store: Store, run: Run) -> tuple[int, float] | None:
    """The token whose 95th percentile over the prompts still running is the highest, and that KL."""
    kl = shift_of(store, run)
    if kl is None:
        return None
    given = {"metric": kl.metric, "quantity": kl.curve.quantity}
    answer = store.query(_KL, attempt=run.attempt, sign=run.sign, alpha=ALPHA, tokens=TOKENS, **given)
    if not answer.rows:
        return None
    position, value = np.array(answer.rows, dtype=float).T
    tokens, (p95,), _ = quantiles(position, value, (0.95,))
    at = int(p95.argmax())
    return int(tokens[at]), float(p95[at])
