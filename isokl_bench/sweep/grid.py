"""What a sweep is asked for: some values for each axis, from a preset, a TOML file or options."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from isokl_bench.pipeline.config import FIELDS, RunConfig
from isokl_registry import IsoklError, unknown
from isokl_registry.toml import read_toml

PRESETS = ("paper", "paper-published", "leaderboard", "tiny")

# In this order cells follow each other: a model is loaded once, and methods follow each other on the same activations.
AXES = (
    "model",
    "dtype",
    "behavior",
    "seed",
    "layers",
    "protocol",
    "window",
    "stat",
    "target",
    "method",
)
LISTS = ("alphas", "metrics")
OPTIONS = {"metric": "metrics"}  # options of the command line that are named otherwise than the field
KEYS = sorted({*FIELDS, *OPTIONS} - set(OPTIONS.values()))

Values = dict[str, Any]


def cells(*sources: Mapping[str, Any]) -> list[RunConfig]:
    """The runs of a grid, in the order in which they are best made.

    Args:
        sources: fields of RunConfig with their values; later ones replace earlier ones. A field in AXES may have a
            list of values, and every combination is a run; the others have one.

    Raises:
        IsoklError: when a model or a method is missing, a value stands twice on its axis, or is none.
    """
    values = {name: value for source in sources for name, value in source.items()}
    for name in ("model", "method"):
        if name not in values:
            raise IsoklError(f"the sweep has no {name}: give --{name}, a TOML file or --preset paper")
    axes = {name: _several(values.pop(name)) for name in AXES if name in values}
    for name, several in axes.items():
        if not several:
            raise IsoklError(f"{name} of the sweep is empty: give at least one value")
        if twice := [value for i, value in enumerate(several) if value in several[:i]]:
            raise IsoklError(f"{name} of the sweep has {twice[0]!r} twice: keep one")
    return [RunConfig(**values, **dict(zip(axes, cell, strict=True))) for cell in product(*axes.values())]


def read_preset(name: str) -> Values:
    """The values of a preset.

    Raises:
        IsoklError: when there is none of that name.
    """
    if name not in PRESETS:
        raise IsoklError(unknown("preset", name, PRESETS))
    text = (files(__package__) / f"presets/{name}.toml").read_text(encoding="utf-8")
    return _checked(tomllib.loads(text), f"preset {name}")


def read_file(path: Path) -> Values:
    """The values of a TOML file, whose keys are the long options of `isokl run` with _ for -.

    Raises:
        IsoklError: naming file, key and what would be right.
    """
    return _checked(read_toml(path, "sweep file")[1], f"sweep file {path}")


def _checked(data: Mapping[str, Any], where: str) -> Values:
    values: Values = {}
    for key, value in data.items():
        name = OPTIONS.get(key, key)
        if name not in FIELDS:
            raise IsoklError(f"{where}: {unknown('key', key, KEYS)}")
        if name in values:
            raise IsoklError(f"{where}: metric and metrics are one: keep metric")
        if isinstance(value, list) and name not in (*AXES, *LISTS):
            raise IsoklError(f"{where}: {key} is a list, but a sweep has one {key}: give a single value")
        for part in _several(value) if name in AXES else [value]:
            _check_value(name, part, where)
        values[name] = value
    return values


def _check_value(name: str, value: Any, where: str) -> None:
    try:
        RunConfig(**{"model": "any", "method": "any", name: value})
    except IsoklError as error:
        raise IsoklError(f"{where}: {error}") from None


def _several(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
