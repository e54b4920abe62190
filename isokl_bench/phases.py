"""The phases of a run by name: what a plan needs, what an attempt has, and so what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isokl_bench.config import Resolved
from isokl_registry import Metric, PromptMethod

NO_DOSE = "no_dose"  # the outcome of a prompt method: there is nothing to calibrate
REACHED = ("converged", "jump", NO_DOSE)  # outcomes after which there is something to measure
WEIGHTS = {"fit": 1, "calibrate": 5, "validate": 1, "metric": 3, "traces": 2}  # rough shares of the time


def weight(names: Sequence[str]) -> int:
    """How much of the work the phases are."""
    return sum(WEIGHTS[name.split(" ", 1)[0]] for name in names)


def trace_prefix(sign: int) -> str:
    return f"traces {sign:+d} "


def signs(plan: Resolved) -> tuple[int, ...]:
    """The directions that the run was asked for."""
    return (1, -1) if plan.config.bidirectional else (1,)


def phase_names(plan: Resolved, done: dict[str, Any]) -> list[str]:
    """Phases that the plan needs and `done` lacks, in order."""
    names = [] if isinstance(plan.method, PromptMethod) else ["fit"]
    for sign in signs(plan):
        calibrated = done.get(f"calibrate {sign:+d}")
        names.append(f"calibrate {sign:+d}")
        if calibrated is not None and calibrated["outcome"] not in REACHED:
            continue
        names.append(f"validate {sign:+d}")
        lacking = [(metric, missing_alphas(plan, metric, sign, done)) for metric in plan.metrics]
        names += [metric_phase(metric, sign, alphas) for metric, alphas in lacking if alphas]
        if missing := missing_in(plan.alphas, trace_prefix(sign), done):
            names.append(trace_prefix(sign) + alpha_list(missing))
    return [name for name in names if name not in done]


def missing_alphas(plan: Resolved, metric: Metric, sign: int, done: dict[str, Any]) -> list[float]:
    """Alphas at which the metric has not been stored yet."""
    return missing_in(plan.alphas, metric_prefix(metric, sign), done)


def missing_in(alphas: Sequence[float], prefix: str, done: dict[str, Any]) -> list[float]:
    stored = {alpha for name, data in done.items() if name.startswith(prefix) for alpha in data["alphas"]}
    return [alpha for alpha in alphas if alpha not in stored]


def metric_prefix(metric: Metric, sign: int) -> str:
    return f"metric {sign:+d} {metric.label()}@{metric.version} "


def metric_phase(metric: Metric, sign: int, alphas: Sequence[float]) -> str:
    return metric_prefix(metric, sign) + alpha_list(alphas)


def alpha_list(alphas: Sequence[float]) -> str:
    return ",".join(f"{alpha:.12g}" for alpha in alphas)
