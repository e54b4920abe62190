"""The headline effect: how far a method moves the answer's log-ratio, in nats, towards the side that was asked for."""

from __future__ import annotations

from isokl_bench.results.table import Estimate, Row

EFFECT = "log_ratio_alpha1"
FINAL = "final_log_ratio_alpha1"


def effect(row: Row, key: str = EFFECT) -> Estimate | None:
    """Change of log p(target answer) − log p(other) at alpha 1, in nats; a run of sign − asks for the other side, so
    its changes are turned. None where it is not measured."""
    found = row.estimates.get(key)
    return found if found is None or row.first.sign > 0 else found.turned()


def effects_by_seed(row: Row) -> dict[int | None, float]:
    """The effect of each seed that has one."""
    both = zip(row.reached, row.stored, strict=True)
    return {run.seed: run.sign * stored[EFFECT].mean for run, stored in both if EFFECT in stored}
