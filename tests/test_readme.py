"""README and docs show what is: example code, names and links are compared with the real ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from isokl_bench.cli import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
HOMES = {
    "method": "methods.md",
    "model": "models.md",
    "stat": "metrics.md",
    "metric": "metrics.md",
    "behavior": "behaviors.md",
}


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["isokl_example.py", "pyproject.toml"])
def test_example_plugin_is_the_tested_one(name):
    code = (ROOT / "tests" / "example_plugin" / name).read_text(encoding="utf-8").strip()
    assert code in page("write-a-plugin.md")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_mentioned(command):
    """Beside the reference, which is generated."""
    assert any(f"isokl {command}" in path.read_text(encoding="utf-8") for path in PAGES)


@pytest.mark.parametrize("kind", HOMES)
def test_every_plugin_is_on_the_page_of_its_kind(kind, registry):
    for name in registry.entries[kind]:
        assert f"`{name}`" in page(HOMES[kind])


def test_rooms_are_the_real_ones():
    rooms = {
        path.name + "/" * path.is_dir()
        for path in (ROOT / "isokl_bench").iterdir()
        if not path.name.startswith("_") and path.name != "py.typed"
    }
    assert set(re.findall(r"^\| `([a-z]+/|[a-z]+\.py)` \|", page("how-it-works.md"), re.M)) == rooms


def test_every_dependency_says_what_it_is_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for texts in [project["dependencies"], *project["optional-dependencies"].values()]:
        for text in texts:
            assert re.search(rf"\b{Requirement(text).name}\b", page("dependencies.md")), text


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert "://" in target or (path.parent / target).is_file(), target
