"""Fitting a method to the contrast pairs of a behavior."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from isokl_bench.engine import activations
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.steering import Steering
from isokl_bench.pipeline.plan import Plan
from isokl_registry import Contrast, IsoklError, Method, Site

ReadActivations = Callable[[LanguageModel, Sequence[Sequence[int]], Sequence[Site]], dict[Site, Tensor]]


def fit(
    plan: Plan, lm: LanguageModel, sites: Sequence[Site], read: ReadActivations = activations.record
) -> Steering:
    """Fit the plan's method at every site.

    Args:
        plan: of a method that is fitted.
        lm: the plan's model.
        sites: where the method edits.
        read: reads the last token's activations, as `engine.activations.record` does.

    Returns:
        The steering, with metadata that says where and how it applies.

    Raises:
        IsoklError: naming the site when the contrast allows no fit.
    """
    assert isinstance(plan.method, Method)
    positive, negative = (read(lm, half, sites) for half in _contrast_prompts(plan, lm))
    state = {}
    for site in sites:
        contrast = Contrast(positive[site], negative[site], site, lm.module(site), plan.config.seed)
        torch.manual_seed(plan.config.seed)
        try:
            state[site] = plan.method.fit(contrast)
        except ValueError as error:
            raise IsoklError(f"{plan.method.label()} cannot be fitted at block {site}: {error}") from error
    return Steering(plan.method, state, _metadata(plan, plan.method))


def _contrast_prompts(plan: Plan, lm: LanguageModel) -> list[list[list[int]]]:
    """Token ids under the positive and under the negative persona; row i of both has the same message."""
    prefix = plan.prompts.answer.prefill if plan.config.position == "answer" else ""
    halves: list[list[list[int]]] = [[], []]
    for i, prompt in enumerate(plan.splits.fit):
        personas = plan.prompts.personas[i % len(plan.prompts.personas)]
        for half, persona in zip(halves, personas, strict=True):
            half.append(lm.chat.ids(prompt.text, system=persona, prefix=prefix))
    return halves


def _metadata(plan: Plan, method: Method) -> dict[str, Any]:
    return {
        "site": "output of a Linear" if method.linears else "output of a transformer block",
        "layers": list(plan.layers),
        "layer_numbering": "0 is the first transformer block",
        "position": f"last token of the {'prefill of the answer' if plan.config.position == 'answer' else 'prompt'}",
        "model": plan.identity["model_identity"],
        "behavior": plan.behavior.name,
        "behavior_hash": plan.identity["behavior_hash"],
        "sign": "a positive dose is meant to move towards the positive persona",
    }
