"""The phases of a run by name: what a plan needs, what an attempt has, and so what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from isokl_bench.pipeline.config import Plan
from isokl_registry import Metric, PromptMethod

NO_DOSE = "no_dose"  # the outcome of a prompt method: there is nothing to calibrate
REACHED = ("converged", "jump", NO_DOSE)  # outcomes after which there is something to measure
# Rough shares of the time; what metrics need beside rollouts are forks.
WEIGHTS = {"fit": 1.0, "calibrate": 4.0, "generate": 8.0, "validate": 0.1, "metric": 0.5, "traces": 0.1}


def weight(names: Sequence[str]) -> float:
    """How much of the work the phases are."""
    return sum(WEIGHTS[name.split(" ", 1)[0]] for name in names)


def trace_prefix(sign: int) -> str:
    return f"traces {sign:+d} "


def signs(plan: Plan) -> tuple[int, ...]:
    """The directions that the run was asked for."""
    return (1, -1) if plan.config.bidirectional else (1,)


def phase_names(plan: Plan, done: dict[str, Any]) -> list[str]:
    """Phases that the plan needs and `done` lacks, in order."""
    names = [] if isinstance(plan.method, PromptMethod) else ["fit"]
    for sign in signs(plan):
        calibrated = done.get(f"calibrate {sign:+d}")
        names.append(f"calibrate {sign:+d}")
        if calibrated is not None and calibrated["outcome"] not in REACHED:
            continue
        lacking = [] if validate_phase(sign) in done else [validate_phase(sign)]
        missing = missing_metrics(plan, sign, done)
        lacking += [metric_phase(metric, sign, alphas) for metric, alphas in missing.items()]
        if traces := missing_in(plan.alphas, trace_prefix(sign), done):
            lacking.append(trace_prefix(sign) + alpha_list(traces))
        names += [generate_phase(sign, done), *lacking] if lacking else []
    return [name for name in names if name not in done]


def validate_phase(sign: int) -> str:
    return f"validate {sign:+d}"


def generate_phase(sign: int, done: dict[str, Any]) -> str:
    """What is generated is not stored: what a later phase lacks is generated again, and counted."""
    before = sum(name.startswith(f"generate {sign:+d} ") for name in done)
    return f"generate {sign:+d} {before + 1}"


def missing_metrics(plan: Plan, sign: int, done: dict[str, Any]) -> dict[Metric, list[float]]:
    """Metrics that lack something, and the alphas at which they do."""
    return {m: alphas for m in plan.metrics if (alphas := missing_alphas(plan, m, sign, done))}


def missing_alphas(plan: Plan, metric: Metric, sign: int, done: dict[str, Any]) -> list[float]:
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
