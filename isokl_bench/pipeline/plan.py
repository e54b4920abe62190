"""What a configuration resolves to: plugins, prompts and blocks, and the plain values that its hash is made of."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from isokl_bench.engine.layers import parse_layers
from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.splits import Splits, prompt_hashes, split_prompts
from isokl_registry import (
    BehaviorPlugin,
    IsoklError,
    Method,
    Metric,
    ModelPlugin,
    PromptMethod,
    PromptSet,
    Registry,
    Stat,
)

PROMPT_ALPHAS = (0.0, 1.0)  # a system message is not there, or it is


@dataclass(frozen=True)
class Plan:
    """A run with every name looked up. `identity` is what the config hash is the hash of.

    A prompt method has no layers, and no alphas but 0 and 1, whatever was asked for."""

    config: RunConfig
    method: Method | PromptMethod
    model: ModelPlugin
    stat: Stat
    metrics: tuple[Metric, ...]
    behavior: BehaviorPlugin
    prompts: PromptSet
    splits: Splits
    layers: tuple[int, ...]
    target: float
    alphas: tuple[float, ...]
    identity: dict[str, Any]


@dataclass(frozen=True)
class _Behavior:
    """A behavior as one model is asked."""

    plugin: BehaviorPlugin
    prompts: PromptSet
    hash: str


class Resolver:
    """Resolves configurations; what several of them share is looked up, read and hashed once."""

    def __init__(self, registry: Registry) -> None:
        self._create, self._registry = cache(registry.create), registry
        self._model, self._behavior = cache(self._find_model), cache(self._find_behavior)

    def resolve(self, config: RunConfig) -> Plan:
        """Look every name up, loading neither torch nor weights.

        Raises:
            IsoklError: naming the value that is wrong, and what would be right.
        """
        method: Method | PromptMethod = self._create("method", config.method)
        stat: Stat = self._create("stat", config.stat)
        metrics: list[Metric] = [self._create("metric", spec) for spec in config.metrics]
        by_prompt = isinstance(method, PromptMethod)
        model, card = self._model(config.model, config.revision)
        behavior = self._behavior(config.behavior, model.prompt_set)
        plan = Plan(
            config=config,
            method=method,
            model=model,
            stat=stat,
            metrics=tuple({metric.label(): metric for metric in metrics}.values()),
            behavior=behavior.plugin,
            prompts=behavior.prompts,
            splits=split_prompts(config, behavior.prompts.prompts, behavior.plugin.name),
            layers=() if by_prompt else parse_layers(config.layers, card["blocks"]),
            target=_target(config, stat),
            alphas=PROMPT_ALPHAS if by_prompt else tuple(sorted({0.0, *config.alphas})),
            identity={},
        )
        return dataclasses.replace(plan, identity=_identity(plan, card, behavior.hash))

    def _find_model(self, name: str, revision: str | None) -> tuple[ModelPlugin, dict[str, Any]]:
        model = self._registry.model(name)
        if revision is not None:
            model = model.at(revision)
        return model, model.identity()

    def _find_behavior(self, name: str, prompt_set: str) -> _Behavior:
        plugin = self._registry.behavior(name)
        prompts = plugin.load(prompt_set)
        return _Behavior(plugin, prompts, prompts_hash(prompts))


def resolve(config: RunConfig, registry: Registry) -> Plan:
    """One configuration alone, as `Resolver.resolve` does it."""
    return Resolver(registry).resolve(config)


def _identity(plan: Plan, card: dict[str, Any], behavior_hash: str) -> dict[str, Any]:
    """Everything that may change the numbers of the calibration, as JSON-able values. card: the model's identity."""
    config = plan.config
    return {
        "model": card["source"],
        "model_identity": card,
        "dtype": config.dtype,
        "chat_template": _template_identity(config.chat_template),
        "behavior": plan.behavior.name,
        "behavior_version": plan.behavior.version,
        "behavior_hash": behavior_hash,
        "method": plan.method.label(),
        "method_version": plan.method.version,
        "method_params": plan.method.params(),
        "layers": list(plan.layers),
        "position": None if isinstance(plan.method, PromptMethod) else config.position,
        "stat": plan.stat.label(),
        "stat_version": plan.stat.version,
        "target": plan.target,
        "tolerance": config.tolerance,
        "protocol": config.protocol,
        "window": config.window,
        "seed": config.seed,
        "prompts": {name: prompt_hashes(texts) for name, texts in plan.splits.texts().items()},
    }


def _target(config: RunConfig, stat: Stat) -> float:
    target = float(stat.target if config.target is None else config.target)
    if not 0 < target < math.inf:
        raise IsoklError(
            f"target {target:g} of stat {stat.label()!r} is not a positive number: give a target"
        )
    return target


def prompts_hash(prompts: PromptSet) -> str:
    """SHA-256 over everything that a behavior tells a model."""
    return hashlib.sha256(repr(dataclasses.astuple(prompts)).encode()).hexdigest()


def _template_identity(option: str | None) -> str | None:
    if option is None or option == "plain":
        return option
    try:
        return hashlib.sha256(Path(option).read_bytes()).hexdigest()
    except OSError as error:
        raise IsoklError(
            f"chat template {option!r} cannot be read ({error}): give 'plain' or a Jinja file"
        ) from error
