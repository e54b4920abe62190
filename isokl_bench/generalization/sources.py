"""Where the gap between calibration and evaluation comes from: the calibration's setting, one thing changed at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from isokl_bench.pipeline.phases import Kind, Phase
from isokl_bench.pipeline.plan import Plan
from isokl_registry import PromptSet, Registry

MORE = 4  # × the calibration prompts
LONGER = (2, 5)  # × the window
OTHER_SEEDS = (1, 2)  # added to the run's own


@dataclass(frozen=True)
class Source:
    """The calibration's setting with one thing changed. reading: which text is read, the steered model's greedy or
    sampled one, or the base model's greedy one."""

    name: str
    changed: str
    prompts: Sequence[str]
    tokens: int
    reading: Literal["greedy", "sampled", "base"] = "greedy"


def sources(plan: Plan, registry: Registry) -> list[Source]:
    """What is looked at; the first is the calibration itself. Where there are fewer prompts than wanted, all are taken."""
    window, seed, texts = plan.config.window, plan.config.seed, plan.splits.texts()
    same, fit = texts["calibration"], texts["fit"]
    known = [*same, *texts["holdout"]]
    more = [*known, *drawn(plan.prompts, seed, without=[*known, *fit])][: MORE * len(same)]
    found = [
        Source("calibration", "nothing (self-check)", same, window),
        Source("more_prompts", "more, these among them", more, window),
        Source("other_prompts", "the holdout prompts", texts["holdout"], window),
    ]
    for name, entry in registry.entries["behavior"].items():
        if entry.source.distribution == "isokl-bench" and name != plan.behavior.name:
            others = drawn(entry.component.load(plan.model.prompt_set), seed)[: len(same)]
            found.append(Source(f"behavior_{name}", f"prompts of {name}", others, window))
    found += [Source(f"window_{k}x", f"{k} × the tokens", same, k * window) for k in LONGER]
    for other in (seed + step for step in OTHER_SEEDS):
        redrawn = drawn(plan.prompts, other, without=fit)[: len(same)]
        found.append(Source(f"seed_{other}", "prompts drawn with that seed, none of fit", redrawn, window))
    found += [
        Source("sampled", "sampled at temperature 1", same, window, "sampled"),
        Source("teacher_forced", "along the base model's own greedy text", same, window, "base"),
    ]
    return found


def drawn(prompts: PromptSet, seed: int, without: Sequence[str] = ()) -> list[str]:
    """The texts in the order in which a seed draws them."""
    texts = [prompt.text for prompt in prompts.prompts if prompt.text not in without]
    random.Random(seed).shuffle(texts)
    return texts


def gap_phase(sign: int) -> Phase:
    """The phase in which the sources of one sign are stored."""
    return Phase(Kind.GAP, sign)
