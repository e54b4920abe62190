"""What a sweep is asked for: some values for each axis, from a preset, a TOML file or options."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any

from isokl_bench.pipeline.config import RunConfig
from isokl_registry import IsoklError, unknown

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
FIELDS = {field.name: field for field in dataclasses.fields(RunConfig)}
LISTS = ("alphas", "metrics")
KINDS = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}

Values = dict[str, Any]


def cells(*sources: Mapping[str, Any]) -> list[RunConfig]:
    """The runs of a grid, in the order in which they are best made.

    sources: fields of RunConfig with their values; later ones replace earlier ones. A field in AXES may have a list of
    values, and every combination is a run; the others have one. Raises IsoklError when a model or a method is missing,
    or a value stands twice on its axis."""
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
    """The values of a preset. Raises IsoklError when there is none of that name."""
    if name not in PRESETS:
        raise IsoklError(unknown("preset", name, PRESETS))
    return _checked(
        tomllib.loads((files(__package__) / f"presets/{name}.toml").read_text()), f"preset {name}"
    )


def read_file(path: Path) -> Values:
    """The values of a TOML file. Raises IsoklError naming file, key and what would be right."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise IsoklError(f"sweep file {path} cannot be read ({reason}): check the path") from None
    except tomllib.TOMLDecodeError as error:
        raise IsoklError(f"sweep file {path} is not valid TOML: {error}") from None
    return _checked(data, f"sweep file {path}")


def _checked(data: Mapping[str, Any], where: str) -> Values:
    for name, value in data.items():
        if name not in FIELDS:
            raise IsoklError(f"{where}: {unknown('key', name, FIELDS)}")
        listed = isinstance(value, list)
        if listed and name not in AXES and name not in LISTS:
            raise IsoklError(f"{where}: {name} is a list, but a sweep has one {name}: give a single value")
        for part in value if listed else [value]:
            _check_kind(name, part, where)
        if name in LISTS and not listed:
            raise IsoklError(f"{where}: {name} is {value!r}: give a list, even of one")
    return {name: tuple(value) if name in LISTS else value for name, value in data.items()}


def _check_kind(name: str, value: Any, where: str) -> None:
    words = {"alphas": "float", "metrics": "str"}.get(name) or str(FIELDS[name].type).split(" | ")[0]
    wrong = not isinstance(value, KINDS[words]) or (isinstance(value, bool) and words != "bool")
    if wrong or (isinstance(value, int) and abs(value) >= 2**63):
        kinds = {"int": "a whole number", "float": "a number", "str": "a text", "bool": "true or false"}
        raise IsoklError(f"{where}: {name} has the value {value!r}: give {kinds[words]}")


def _several(value: Any) -> Sequence[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
