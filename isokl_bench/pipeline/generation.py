"""What a run has to generate once its dose is known: every rollout that a phase still lacks, to be made in one."""

from __future__ import annotations

from isokl_bench.engine.sampling import Sampler
from isokl_bench.pipeline.intervention import Ask
from isokl_bench.pipeline.phases import Done, Kind, Phase, missing_metrics, missing_traces
from isokl_bench.pipeline.plan import Plan
from isokl_bench.pipeline.stat_reading import StatReading

TRACES, TRACE_TOKENS = 4, 128  # how many holdout prompts have their texts stored, and how much of them
GREEDY, SAMPLED = "greedy", "traces"  # what metrics read, and the texts that are stored
VALIDATION = ("holdout", "calibration_sampled", "holdout_sampled")


def to_generate(plan: Plan, sign: int, done: Done) -> dict[str, Ask]:
    """The rollouts of one sign by name, what the metrics read first; none when no phase lacks anything.

    It is all that the plan asks for at the alphas at which something is missing, even what an interrupted run has
    stored already: among the same rows, a row comes out the same to the last bit."""
    missing = missing_metrics(plan, sign, done)
    traces = missing_traces(plan, sign, done)
    if not missing and not traces and Phase(Kind.VALIDATE, sign) in done:
        return {}
    texts = [prompt.text for prompt in plan.splits.holdout]
    alphas = sorted({0.0}.union(traces, *(lacking for _, lacking in missing)))
    own = StatReading.alphas(plan.stat)
    window, sampler = plan.config.window, Sampler(plan.config.seed)
    return {
        GREEDY: Ask(texts, alphas, max([1, *(metric.tokens for metric in plan.metrics)])),
        "holdout": Ask(texts, own, window),
        "calibration_sampled": Ask([p.text for p in plan.splits.calibration], own, window, sampler),
        "holdout_sampled": Ask(texts, own, window, sampler),
        SAMPLED: Ask(texts[:TRACES], alphas, TRACE_TOKENS, sampler),
    }
