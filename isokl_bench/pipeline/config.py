"""What a run is asked for, and what that resolves to: the plain values that its hash is made of."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from isokl_bench.engine.layers import parse_layers
from isokl_registry import (
    BehaviorPlugin,
    IsoklError,
    Method,
    Metric,
    ModelPlugin,
    Prompt,
    PromptMethod,
    PromptSet,
    Registry,
    Stat,
    unknown,
)

PROTOCOLS = {"stable": (32, 32), "published": (4, 4)}  # calibration and holdout prompts
METRICS = ("target_logit", "base_nll", "branch_pmass", "kl_trajectory")
ALPHAS = (0.0, 0.5, 1.0, 2.0, 4.0)
PROMPT_ALPHAS = (0.0, 1.0)  # a system message is not there, or it is
POSITIONS = ("answer", "prompt")  # where contrast pairs are read
DTYPES = ("float32", "bfloat16", "float16")
IDENTITY, RUNTIME = {"identity": True}, {"identity": False}


def _identity(default: Any = dataclasses.MISSING) -> Any:
    return field(default=default, metadata=IDENTITY)


def _runtime(default: Any) -> Any:
    return field(default=default, metadata=RUNTIME)


@dataclass(frozen=True)
class RunConfig:
    """Everything a person may ask of one run.

    Fields marked identity change the numbers of the calibration and so the config hash; runtime fields do not
    (metrics and alphas are measured on top of a stored calibration).

    model, method, behavior, stat: names, or name[key=value,…]. revision: branch, tag or commit of a hub model; the commit
    that it leads to is what the hash holds. layers: 60%, 3, 3,5, 2-5, 30%-60%, all, -1. target,
    tolerance: in the stat's unit; None is the stat's own target. protocol: stable (32 calibration and holdout
    prompts) or published (4). window: tokens per calibration rollout. position: the token at which contrast pairs are
    read, the last before the answer word (its prefill behind the prompt) or the last of the prompt. fit_prompts, calibration_prompts,
    holdout_prompts: sizes of the three disjoint prompt sets.
    """

    model: str = _identity()
    method: str = _identity()
    behavior: str = _identity("sentiment")
    layers: str = _identity("60%")
    stat: str = _identity("kl_p95")
    target: float | None = _identity(None)
    tolerance: float = _identity(0.05)
    protocol: str = _identity("stable")
    window: int = _identity(20)
    seed: int = _identity(0)
    position: str = _identity("answer")
    fit_prompts: int = _identity(64)
    calibration_prompts: int | None = _identity(None)
    holdout_prompts: int | None = _identity(None)
    dtype: str = _identity("float32")
    chat_template: str | None = _identity(None)
    revision: str | None = _identity(None)
    metrics: tuple[str, ...] = _runtime(METRICS)
    alphas: tuple[float, ...] = _runtime(ALPHAS)
    bidirectional: bool = _runtime(False)
    device: str = _runtime("auto")


@dataclass(frozen=True)
class Splits:
    """Three disjoint sets of prompts, drawn with the run's seed."""

    fit: tuple[Prompt, ...]
    calibration: tuple[Prompt, ...]
    holdout: tuple[Prompt, ...]

    def texts(self) -> dict[str, list[str]]:
        return {f.name: [p.text for p in getattr(self, f.name)] for f in dataclasses.fields(self)}


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


def resolve(config: RunConfig, registry: Registry) -> Plan:
    """Look every name up and check every value, loading neither torch nor weights.

    Raises IsoklError naming the value that is wrong, and what would be right."""
    _check(config)
    method: Method | PromptMethod = registry.create("method", config.method)
    stat: Stat = registry.create("stat", config.stat)
    metrics: tuple[Metric, ...] = tuple(registry.create("metric", spec) for spec in config.metrics)
    behavior = registry.behavior(config.behavior)
    model = registry.model(config.model)
    if config.revision is not None:
        model = model.at(config.revision)
    prompts = behavior.load(model.prompt_set)
    splits = split_prompts(config, prompts.prompts, behavior.name)
    card = model.identity()
    by_prompt = isinstance(method, PromptMethod)
    layers = () if by_prompt else parse_layers(config.layers, card["blocks"])
    target = float(stat.target if config.target is None else config.target)
    if not 0 < target < math.inf:
        raise IsoklError(f"target {target:g} is not a positive number: a budget is a shift greater than 0")
    identity = {
        "model": card["source"],
        "model_identity": card,
        "dtype": config.dtype,
        "chat_template": _template_identity(config.chat_template),
        "behavior": behavior.name,
        "behavior_version": behavior.version,
        "behavior_hash": prompts_hash(prompts),
        "method": method.label(),
        "method_version": method.version,
        "method_params": method.params(),
        "layers": list(layers),
        "position": None if by_prompt else config.position,
        "stat": stat.label(),
        "stat_version": stat.version,
        "target": target,
        "tolerance": float(config.tolerance),
        "protocol": config.protocol,
        "window": config.window,
        "seed": config.seed,
        "prompts": {name: prompt_hashes(texts) for name, texts in splits.texts().items()},
    }
    alphas = PROMPT_ALPHAS if by_prompt else tuple(sorted({0.0, *config.alphas}))
    return Plan(
        config, method, model, stat, metrics, behavior, prompts, splits, layers, target, alphas, identity
    )


def split_prompts(config: RunConfig, prompts: Sequence[Prompt], behavior: str) -> Splits:
    """Fit, calibration and holdout prompts: a seeded shuffle, cut in three. Raises IsoklError when too few."""
    calibration, holdout = PROTOCOLS[config.protocol]
    sizes = {
        "fit": config.fit_prompts,
        "calibration": calibration if config.calibration_prompts is None else config.calibration_prompts,
        "holdout": holdout if config.holdout_prompts is None else config.holdout_prompts,
    }
    for name, size in sizes.items():
        if size < 1:
            raise IsoklError(f"the {name} prompt set is empty: give --{name}-prompts at least 1")
    if sum(sizes.values()) > len(prompts):
        need = " + ".join(f"{size} {name}" for name, size in sizes.items())
        raise IsoklError(
            f"behavior {behavior!r} has {len(prompts)} prompts, but {need} are {sum(sizes.values())} and may not "
            "overlap: add prompts, or lower --fit-prompts, --calibration-prompts or --holdout-prompts"
        )
    order = list(prompts)
    random.Random(config.seed).shuffle(order)
    parts = []
    for size in sizes.values():
        parts.append(tuple(order[:size]))
        del order[:size]
    splits = Splits(*parts)
    texts = [text for part in splits.texts().values() for text in part]
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise IsoklError(
            f"behavior {behavior!r} has the prompt {twice[:60]!r} twice, so its prompt sets overlap: keep one"
        )
    return splits


def prompts_hash(prompts: PromptSet) -> str:
    """SHA-256 over everything that a behavior tells a model."""
    return hashlib.sha256(repr(dataclasses.astuple(prompts)).encode()).hexdigest()


def prompt_hashes(texts: Sequence[str]) -> list[str]:
    """First 16 hex digits of the SHA-256 of each text."""
    return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]


def _check(config: RunConfig) -> None:
    if config.protocol not in PROTOCOLS:
        raise IsoklError(unknown("protocol", config.protocol, PROTOCOLS))
    if config.position not in POSITIONS:
        raise IsoklError(unknown("position", config.position, POSITIONS))
    if config.dtype not in DTYPES:
        raise IsoklError(unknown("dtype", config.dtype, DTYPES))
    if config.window < 1:
        raise IsoklError(f"window {config.window} is too short: give at least 1 token")
    if not 0 < config.tolerance < math.inf:
        raise IsoklError(f"tolerance {config.tolerance:g} is not a positive number: give 0.05, for example")
    if not 0 <= config.seed < 2**63:
        raise IsoklError(f"seed {config.seed} is out of range: give a whole number from 0 to 2^63 - 1")
    for name in ("metrics", "alphas"):
        if not isinstance(getattr(config, name), (tuple, list)):
            raise IsoklError(f"{name} is {getattr(config, name)!r}: give a tuple, even of one")
    if not config.alphas or any(not 0 <= alpha < float("inf") for alpha in config.alphas):
        raise IsoklError(
            "alphas must be 0 or more: they are multiples of the calibrated dose, --bidirectional is for −"
        )
    if not config.metrics:
        raise IsoklError("no metric is asked for: leave --metric out to have all built-in ones")


def _template_identity(option: str | None) -> str | None:
    if option is None or option == "plain":
        return option
    try:
        return hashlib.sha256(Path(option).read_bytes()).hexdigest()
    except OSError as error:
        raise IsoklError(
            f"chat template {option!r} cannot be read ({error}): give 'plain' or a Jinja file"
        ) from error
