"""`isokl plugins`: what there is, and what was left out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

import click
import pytest
from click.testing import CliRunner

from isokl_bench.cli import plugins as module
from isokl_bench.cli import plugins_check, plugins_new, plugins_table
from isokl_registry import IsoklError, Method, ModelPlugin, Registry, Source, hookimpl, load_registry
from isokl_registry.conformance import LAWS
from tests.scratch import Scratch, environment


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
    for user in (module, plugins_check, plugins_new):
        monkeypatch.setattr(user, "load_registry", lambda: registry)
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
    monkeypatch.setattr(plugins_table, "get_terminal_size", lambda: os.terminal_size((44, 24)))
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


def test_check_prints_a_row_for_each_law(isokl):
    result = isokl("check", "bend[rank=2]")
    assert result.exit_code == 1  # Bend fits nothing
    lines = words(result.stdout)
    assert lines[0] == "method bend[rank=2] isokl-potter 0.3"
    rows = {line.split()[0]: line for line in lines[1:-1]}
    assert list(rows) == [law.name for law in LAWS["method"]]
    assert rows["per_row"] == (
        "per_row passed The dose is per row: a batch at different doses equals its rows one by one."
    )
    assert rows["linear"] == "linear skipped the method does not promise it"
    assert rows["data"] == (
        "data failed The state is data: named, finite float32 tensors on the CPU, that safetensors gives back equal. "
        "But at mlp.up, the state is empty"
    )
    assert lines[-1] == f"{len(rows) - 3} passed, 1 failed, 2 skipped"


def test_check_for_programs(isokl):
    result = isokl("check", "bend[rank=2]", "--json")
    assert result.exit_code == 1
    (found,) = json.loads(result.stdout)["checks"]
    laws = found.pop("laws")
    assert found == {
        "kind": "method",
        "name": "bend[rank=2]",
        "plugin": "potter",
        "distribution": "isokl-potter",
        "version": "0.3",
    }
    assert [law["law"] for law in laws if law["outcome"] == "failed"] == ["data"]
    assert laws[1] == {
        "law": "identity",
        "text": "Dose 0 gives the output back, bit for bit, whatever the token.",
        "outcome": "passed",
        "reason": "",
    }
    assert "the state is empty" in next(law["reason"] for law in laws if law["law"] == "data")


def test_check_of_what_passes():
    result = CliRunner().invoke(module.plugins, ["check", "kl_trajectory[window=2]"])
    assert result.exit_code == 0
    assert result.stdout.endswith(f"\n{len(LAWS['metric'])} passed\n")


@pytest.mark.parametrize(("options", "outcome"), [([], "skipped"), (["--load"], "passed")])
def test_check_loads_only_when_asked(options, outcome):
    result = CliRunner().invoke(module.plugins, ["check", "tiny-llama", *options])
    assert result.exit_code == 0
    (line,) = [line for line in words(result.stdout) if line.startswith("loads")]
    assert line.split()[1] == outcome
    assert line.endswith(": add --load") == (not options)


def test_check_names_the_nearest_and_what_was_left_out(isokl):
    result = isokl("check", "bent")
    assert result.exit_code == 1
    assert str(result.exception) == (
        "unknown plugin 'bent': did you mean 'bend'? available: bend, shy; "
        "plugin 'cracked' (isokl-cracked 0.4) is left out: ImportError: no [clay] here"
    )


@pytest.mark.parametrize("kind", plugins_new.KINDS)
def test_new_writes_a_project_and_says_what_is_next(kind, isokl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = isokl("new", kind, "My-first.one")
    assert result.exit_code == 0, result.exception
    folder = tmp_path / "isokl-my-first-one"
    files = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    module_name = "isokl_my_first_one"
    assert set(files) == {"pyproject.toml", "README.md", f"{module_name}.py", f"test_{module_name}.py"}
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == folder.name
    assert project["entry-points"]["isokl"] == {"My-first.one": module_name}
    assert f"class MyFirstOne({kind.capitalize()}):" in files[f"{module_name}.py"]
    assert not [name for name, text in files.items() if "$" in text]
    assert [line.strip() for line in result.stdout.splitlines()[2:]] == [
        "cd isokl-my-first-one",
        "pip install -e .",
        "isokl plugins check My-first.one",
        "pytest",
    ]


def test_new_takes_another_folder(isokl, tmp_path):
    folder = tmp_path / "a b" / "c"
    result = isokl("new", "stat", "total", "--output", str(folder))
    assert result.exit_code == 0
    assert (folder / "isokl_total.py").is_file()
    assert f"cd '{folder}'" in result.stdout


@pytest.mark.parametrize("name", ["method", "state", "none", "2pac"])
def test_new_finds_a_class_name_that_python_takes(isokl, tmp_path, name):
    assert isokl("new", "method", name, "--output", str(tmp_path / name)).exit_code == 0
    source = (tmp_path / name / f"isokl_{name}.py").read_text(encoding="utf-8")
    compile(source, name, "exec")
    assert f"register(My{name[0].upper()}{name[1:]})" in source


def test_new_overwrites_nothing(isokl, tmp_path):
    (tmp_path / "kept.txt").write_text("mine")
    result = isokl("new", "method", "shine", "--output", str(tmp_path))
    assert str(result.exception) == f"{tmp_path} exists already: give another folder with --output"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("method", "bend"), "method name 'bend' is taken by isokl-potter 0.3: choose another"),
        (
            ("method", "a b"),
            "the name 'a b' will not do: use letters, digits, '_', '.' and '-', as in my_method",
        ),
        (
            ("stat", "../x"),
            "the name '../x' will not do: use letters, digits, '_', '.' and '-', as in my_stat",
        ),
        (
            ("metric", "bench"),
            "there is a Python module isokl_bench already: choose another name than 'bench'",
        ),
    ],
)
def test_new_refuses_names(isokl, tmp_path, monkeypatch, args, told):
    monkeypatch.chdir(tmp_path)
    result = isokl("new", *args)
    assert isinstance(result.exception, IsoklError)
    assert str(result.exception) == told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("behavior", "a behavior is a TOML file: write one and give it as --behavior haste.toml."),
        ("model", "a model is a hub id or a folder: give it as --model FOLDER."),
        ("metod", "'metod' is not a kind of plugin."),
    ],
)
def test_new_has_templates_for_some_kinds(isokl, kind, told):
    result = isokl("new", kind, "x")
    assert result.exit_code == 2
    assert f"Invalid value for 'KIND': {told} There are templates for method, stat, metric." in result.stderr


@pytest.fixture(scope="module")
def projects(tmp_path_factory):
    """A new project of each kind, installed in an environment of its own."""
    folder = tmp_path_factory.mktemp("projects")
    for kind in plugins_new.KINDS:
        made = CliRunner().invoke(
            module.plugins, ["new", kind, f"fresh_{kind}", "--output", str(folder / kind)]
        )
        assert made.exit_code == 0, made.output
    scratch = Scratch(tmp_path_factory.mktemp("scratch"))
    for kind in plugins_new.KINDS:
        scratch.pip_install("-e", folder / kind)
    return folder, scratch


@pytest.mark.parametrize("kind", plugins_new.KINDS)
def test_a_new_project_passes_its_tests_and_the_check(kind, projects):
    folder, scratch = projects
    checked = scratch.isokl("plugins", "check", f"fresh_{kind}", "--json", cwd=folder)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (found,) = json.loads(checked.stdout)["checks"]
    assert (found["kind"], found["distribution"]) == (kind, f"isokl-fresh-{kind}")
    command = [str(scratch.python), "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    env = environment() | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder / kind, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    passed = sum(law["outcome"] == "passed" for law in found["laws"])
    assert f"{passed + 1} passed" in done.stdout


@pytest.mark.parametrize("kind", plugins_new.KINDS)
def test_a_new_project_is_well_formatted(kind, projects):
    folder, _ = projects
    style = ["--isolated", "--no-cache", "--config", "line-length = 110"]
    for command in (
        ["format", "--check"],
        ["check", "--select", "E,F,I,UP,B,SIM,RUF", "--ignore", "RUF002,RUF003"],
    ):
        ruff = [sys.executable, "-m", "ruff", *command, *style]
        done = subprocess.run(ruff, capture_output=True, text=True, cwd=folder / kind)
        assert done.returncode == 0, done.stdout + done.stderr
