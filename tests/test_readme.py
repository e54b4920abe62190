"""The README shows what is: help text and example code are compared with the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from isokl_bench.cli import COMMANDS, cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_help_of_run_is_the_real_one():
    shown = CliRunner().invoke(cli, ["run", "--help"], prog_name="isokl", terminal_width=100).output.strip()
    assert shown in README, f"the README should hold:\n{shown}"


@pytest.mark.parametrize("name", ["isokl_example.py", "pyproject.toml"])
def test_example_plugin_is_the_tested_one(name):
    assert (ROOT / "tests" / "example_plugin" / name).read_text(encoding="utf-8").strip() in README


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_mentioned(command):
    assert f"isokl {command}" in README


def test_every_plugin_is_mentioned(registry):
    for kind in ("method", "model", "stat", "metric", "behavior"):
        for name in registry.entries[kind]:
            assert name in README


def test_pictures_exist():
    for line in README.splitlines():
        if line.startswith("!["):
            assert (ROOT / line.split("(")[1].rstrip(")")).is_file()
