"""`isokl plugins`: what there is, and what was left out."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import click
import pytest
from click.testing import CliRunner

from isokl_bench.cli import plugins as module
from isokl_registry import IsoklError, Method, ModelPlugin, Registry, Source, hookimpl, load_registry


@dataclass(frozen=True)
class Bend(Method):
    """Bends the output: y + c·b.

    Source: nowhere [yet].
    """

    name: ClassVar[str] = "bend"
    linears: ClassVar[tuple[str, ...]] = ("mlp.up", "mlp.down")
    version: ClassVar[int] = 4
    rank: int
    scale: float | None = None
    exact: bool = True
    parts: list[int] = field(default_factory=lambda: [1, 2])

    def fit(self, contrast: Any) -> Any:
        return {}

    def edit(self, output: Any, dose: Any, input: Any, state: Any) -> Any:
        return output + dose


@dataclass
class Clay(ModelPlugin):
    """A model of clay."""

    name: str = "bend"
    description: str = "soft and brown"
    path: str = "/no/where"

    def identity(self) -> dict[str, Any]:
        raise AssertionError("a listing states no identity")

    def load(self, **options: Any) -> Any:
        raise AssertionError("a listing loads nothing")


class Shy(Clay):
    """A model whose description is not to be had."""

    description = property(lambda self: 1 / 0)  # type: ignore[assignment]


@hookimpl
def register_methods(register: Callable[[type[Method]], None]) -> None:
    register(Bend)


@hookimpl
def register_models(register: Callable[[ModelPlugin], None]) -> None:
    register(Clay())
    shy = Shy.__new__(Shy)
    shy.name = "shy"
    register(shy)


def broken() -> object:
    raise ImportError("no [clay] here")


@pytest.fixture
def isokl(monkeypatch):
    """Run `isokl plugins …` on a registry of one good and one broken plugin."""
    registry = Registry()
    plugin = SimpleNamespace(register_methods=register_methods, register_models=register_models)
    registry.add(Source("potter", "isokl-potter", "0.3"), lambda: plugin)
    registry.add(Source("cracked", "isokl-cracked", "0.4"), broken)
    monkeypatch.setattr(module, "load_registry", lambda: registry)
    return lambda *args: CliRunner().invoke(module.plugins, args)


def words(text: str) -> list[str]:
    """Lines, each with its runs of spaces made one."""
    return [" ".join(line.split()) for line in text.splitlines()]


def test_listing(isokl):
    result = isokl()
    assert result.exit_code == 0
    assert words(result.stdout) == [
        "methods",
        "bend Bends the output: y + c·b. isokl-potter 0.3",
        "",
        "models",
        "bend soft and brown isokl-potter 0.3",
        "shy (no description: division by zero) isokl-potter 0.3",
        "",
        "stats",
        "",
        "metrics",
        "",
        "behaviors",
        "",
        "plugin 'cracked' (isokl-cracked 0.4) is left out: ImportError: no [clay] here",
        "isokl plugins show NAME prints parameters and details",
    ]


def test_listing_for_programs(isokl):
    result = isokl("--json")
    assert result.exit_code == 0
    source = {"plugin": "potter", "distribution": "isokl-potter", "version": "0.3"}
    assert json.loads(result.stdout) == {
        "components": {
            "method": [{"name": "bend", "summary": "Bends the output: y + c·b.", **source}],
            "model": [
                {"name": "bend", "summary": "soft and brown", **source},
                {"name": "shy", "summary": "(no description: division by zero)", **source},
            ],
            "stat": [],
            "metric": [],
            "behavior": [],
        },
        "failures": [
            {
                "plugin": "cracked",
                "distribution": "isokl-cracked",
                "version": "0.4",
                "reason": "ImportError: no [clay] here",
            }
        ],
    }


def test_show_prints_every_kind_that_has_the_name(isokl):
    result = isokl("show", "bend")
    assert result.exit_code == 0
    assert words(result.stdout) == [
        "method bend",
        "Bends the output: y + c·b.",
        "",
        "Source: nowhere [yet].",
        "",
        "parameters",
        "rank int required",
        "scale float | None none",
        "exact bool true",
        "parts list[int] [1, 2]",
        "",
        "operation add",
        "linears mlp.up, mlp.down",
        "version 4",
        f"file {__file__}",
        "from isokl-potter 0.3, plugin potter",
        "",
        "model bend",
        "soft and brown",
        "A model of clay.",
        "",
        "prompt set plain",
        "path /no/where",
        f"file {__file__}",
        "from isokl-potter 0.3, plugin potter",
        "",
    ]


def test_on_a_terminal_the_widest_column_is_folded(monkeypatch, capsys):
    monkeypatch.setattr(module, "get_terminal_size", lambda: os.terminal_size((44, 24)))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    registry = Registry()
    plugin = SimpleNamespace(register_models=register_models)
    registry.add(Source("potter", "isokl-potter", "0.3"), lambda: plugin)
    module.print_listing(registry)
    shown = capsys.readouterr().out
    assert "\x1b[36mbend\x1b[0m" in shown
    assert click.unstyle(shown).splitlines()[2:6] == [
        "models",
        "   bend  soft and brown        isokl-potter 0.3",
        "   shy   (no description:      isokl-potter 0.3",
        "         division by zero)     ",
    ]


def test_show_suggests(isokl):
    result = isokl("show", "bent")
    assert result.exit_code == 1
    assert isinstance(result.exception, IsoklError)
    assert str(result.exception) == "unknown plugin 'bent': did you mean 'bend'? available: bend, shy"


@pytest.mark.parametrize("kind", ["method", "model", "stat", "metric", "behavior"])
def test_every_built_in_is_listed_and_shown(kind):
    listed = json.loads(CliRunner().invoke(module.plugins, ["--json"]).stdout)
    entries = load_registry().entries[kind]
    rows = listed["components"][kind]
    assert [row["name"] for row in rows] == list(entries)
    assert listed["failures"] == []
    for row in rows:
        assert row["summary"].endswith((".", "hub", "package")), row
        assert not row["summary"].startswith("(no description"), row
        assert row["distribution"] == "isokl-bench"
        shown = CliRunner().invoke(module.plugins, ["show", row["name"]])
        assert shown.exit_code == 0
        assert f"{kind} {row['name']}" in shown.stdout
        assert row["summary"] in shown.stdout
