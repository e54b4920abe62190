"""README and docs show what is: help texts, example code, names and links are compared with the real ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from isokl_bench.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_help_of_run_is_the_real_one():
    shown = CliRunner().invoke(cli, ["run", "--help"], prog_name="isokl", terminal_width=100).output.strip()
    assert shown in page("cli.md"), f"docs/cli.md should hold:\n{shown}"


@pytest.mark.parametrize("name", ["isokl_example.py", "pyproject.toml"])
def test_example_plugin_is_the_tested_one(name):
    code = (ROOT / "tests" / "example_plugin" / name).read_text(encoding="utf-8").strip()
    assert code in page("write-a-plugin.md")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_mentioned(command):
    assert f"isokl {command}" in README


def test_every_plugin_is_mentioned(registry):
    for kind in ("method", "model", "stat", "metric", "behavior"):
        for name in registry.entries[kind]:
            assert f"`{name}`" in README
    for name in registry.entries["method"]:
        assert f"`{name}`" in page("methods.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        assert "://" in target or (path.parent / target).is_file(), target


def test_every_page_is_linked():
    """From the README, or from a page that is."""
    linked = {target for path in PAGES for target in LINK.findall(path.read_text(encoding="utf-8"))}
    for path in PAGES[1:]:
        assert any(target.rsplit("/", 1)[-1] == path.name for target in linked), path.name
