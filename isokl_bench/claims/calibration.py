"""R1 and R6: does calibration converge, does the budget hold on other prompts, and does it do so again?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from isokl_bench.claims.evidence import Evidence, Key, Subject, without
from isokl_bench.claims.verdict import Answer, Check, Claim, Finding, every
from isokl_db import Outcome

BAND = (0.7, 1.4)  # R1: holdout kl_p95 in nats, for a budget of 1
SPREAD = 0.35  # R6: nats between the seeds of a window
REPEATS = 2  # R6: seeds, and windows, at the least

_IN_BAND = f"in [{BAND[0]:g}, {BAND[1]:g}]"


def converges(evidence: Evidence) -> Claim:
    """R1: every run's calibration converged, and its stat on the holdout prompts is in the band."""
    findings = [_calibration(evidence, subject) for subject in evidence.subjects]
    outcomes = Counter(str(finding.values["outcome"]) for finding in findings)
    shares = [_share(name.replace("_", " "), n, len(findings)) for name, n in outcomes.most_common()]
    bands = _bands(evidence)
    inside = [_share(protocol, sum(found), len(found)) for protocol, found in bands.items()]
    return Claim.of_all(
        "R1",
        "calibration converges and generalises",
        Check(f"converged, and holdout kl_p95 {_IN_BAND}", "runs", findings),
        lines=_lines(evidence, shares, inside),
        numbers={
            "outcomes": dict(outcomes),
            "in_band": {protocol: {"in": sum(found), "of": len(found)} for protocol, found in bands.items()},
        },
    )


def repeats(evidence: Evidence) -> Claim:
    """R6: what R1 says of a method does not depend on seed or window, and the seeds of a window lie close together."""
    groups: dict[tuple[tuple[str, object], ...], list[Finding]] = {}
    for subject in evidence.subjects:
        key = tuple(without(subject.key, "seed", "window").items())
        groups.setdefault(key, []).append(_calibration(evidence, subject))
    findings = [_stability(dict(key), runs) for key, runs in groups.items()]
    condition = (
        f"the same verdict of R1 in every run, and seeds less than {SPREAD:g} nat apart in holdout kl_p95"
    )
    return Claim.of_all("R6", "stability over seeds and windows", Check(condition, "groups", findings))


def _share(name: str, count: int, total: int) -> str:
    return f"{name} {count} of {total} ({count / total:.0%})"


def _lines(evidence: Evidence, shares: Sequence[str], inside: Sequence[str]) -> list[str]:
    lines = [f"outcomes: {', '.join(shares)}", f"holdout {_IN_BAND}: {', '.join(inside)}"] if shares else []
    slopes = [
        subject.run.slope for subject in evidence.subjects if subject.run and subject.run.slope is not None
    ]
    if slopes:
        lines.append(
            f"slope, d log stat / d log dose at the target: {min(slopes):.1f} to {max(slopes):.1f}, median "
            f"{median(slopes):.1f} (theory: 2; the steeper, the worse a coefficient fits other prompts)"
        )
    return lines


def _inside(holdout: float | None) -> bool:
    return holdout is not None and BAND[0] <= holdout <= BAND[1]


def _calibration(evidence: Evidence, subject: Subject) -> Finding:
    if subject.run is None:
        values: dict[str, Any] = {"outcome": "failed", "holdout": None, "error": subject.error}
        return Finding(subject.key, values, f"failed: {subject.error}", False, -math.inf)
    outcome, holdout = subject.run.outcome, evidence.holdout(subject)
    margin = -math.inf if holdout is None else min(holdout - BAND[0], BAND[1] - holdout)
    passes: Answer = False if outcome != Outcome.CONVERGED else None if holdout is None else _inside(holdout)
    found = "no holdout kl_p95 is stored" if holdout is None else f"holdout {holdout:.3f}"
    slope = subject.run.slope
    text = f"{outcome.words}, {found}" + ("" if slope is None else f", slope {slope:.1f}")
    values = {"outcome": outcome, "holdout": holdout, "slope": slope}
    return Finding(subject.key, values, text, passes, margin)


def _bands(evidence: Evidence) -> dict[str, list[bool]]:
    """For each protocol, the one that is judged first, whether each run is in the band."""
    found: dict[str, list[bool]] = {}
    for subject in sorted(evidence.of_budget, key=lambda subject: subject.protocol != evidence.protocol):
        found.setdefault(subject.protocol, []).append(_inside(evidence.holdout(subject)))
    return found


def _stability(key: Key, runs: Sequence[Finding]) -> Finding:
    """runs: the findings of R1 of one method, over seeds and windows."""
    windows: dict[str, list[float | None]] = {}
    for run in runs:
        windows.setdefault(str(run.key["window"]), []).append(run.values["holdout"])
    spreads = {window: _spread(holdouts) for window, holdouts in windows.items()}
    close: list[Answer] = [_close(spreads[window], holdouts) for window, holdouts in windows.items()]
    verdicts = {run.passes for run in runs}
    same: Answer = False if verdicts >= {True, False} else None if None in verdicts else True
    enough: Answer = True if len(windows) >= REPEATS else None
    passed = sum(run.passes is True for run in runs)
    return Finding(
        key,
        {"passed": passed, "runs": len(runs), "spread": spreads},
        f"R1 holds in {passed} of {len(runs)}; {_spread_text(spreads, windows)}",
        every([same, enough, *close]),
        SPREAD - max((spread for spread in spreads.values() if spread is not None), default=0.0),
    )


def _spread(holdouts: Sequence[float | None]) -> float | None:
    """Distance of the outermost seeds, None for fewer than two."""
    known = [holdout for holdout in holdouts if holdout is not None]
    return max(known) - min(known) if len(known) >= REPEATS else None


def _close(spread: float | None, holdouts: Sequence[float | None]) -> Answer:
    """More seeds can only lie further apart."""
    if spread is not None and spread >= SPREAD:
        return False
    return None if spread is None or None in holdouts else True


def _spread_text(spreads: Mapping[str, float | None], windows: Mapping[str, Sequence[float | None]]) -> str:
    words = []
    for window, spread in spreads.items():
        if spread is None:
            validated = sum(holdout is not None for holdout in windows[window])
            words.append(f"{validated} of {REPEATS} seeds that it needs at window {window}")
        else:
            words.append(f"seeds {spread:.3f} apart at window {window}")
    if len(windows) < REPEATS:
        words.append("no other window")
    return ", ".join(words)
