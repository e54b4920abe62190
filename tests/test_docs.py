"""Every code block of README.md and docs/ runs, on the tiny models, page by page in a folder of its own.

    ```python    is executed, in one namespace for each page
    ```sh        `isokl …` lines are run, runs made small (SMALL); `make …` lines must name a target
    ```toml      is parsed
    ```text      is output, and is not looked at

A comment right above a block says more: `<!-- file: NAME -->` writes it into the folder, for the lines that follow, and
`<!-- not run: WHY -->` leaves it out.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import isokl_bench
from isokl_bench.cli import invoke
from isokl_db import Store
from isokl_db.schema import metadata
from isokl_registry import Registry, Source
from isokl_registry.conformance import Skipped, find
from tests.scratch import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (not run|file): ([^\n]+?) -->\n)?^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)
NOT_RUN = 5  # blocks that cannot run here: what they need is said above each
TARGETS = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
# Goes into a line behind the command, so that what the line itself says wins. Every model is tiny-qwen.
SMALL = {
    "run": "--protocol published --holdout-prompts 2 --window 6 --fit-prompts 8 --alphas 0,1,4 --metric kl_trajectory[window=6]"
    " --metric base_nll[window=6] --metric target_logit[window=6] --metric branch_pmass[window=6]",
    "sweep": "--dry-run",
    "behaviors check": "--prompts 4 --window 5",
}
RUN = "267ced"  # the run that pages name stands for one that is there
JUDGES = ("verify", "behaviors")  # exit with 1 where their verdict is no


@dataclass(frozen=True)
class Block:
    """One code block. mark, text: of the comment above it."""

    mark: str
    text: str
    language: str
    code: str


def blocks(path: Path) -> list[Block]:
    return [Block(*found) for found in BLOCK.findall(path.read_text(encoding="utf-8"))]


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A database with one run, which every page begins with."""
    path = tmp_path_factory.mktemp("stored") / "isokl.db"
    line = f"run {SMALL['run']} --method mean_diff --model tiny-qwen --db {path} --quiet"
    assert invoke(shlex.split(line)) == 0
    return path


@pytest.fixture
def folder(stored, tmp_path, monkeypatch):
    """Where a page's blocks run: with the run, another machine's database and a behavior, as pages take for granted."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ISOKL_CACHE", str(tmp_path / "cache"))
    for name in ("isokl.db", "cluster.db"):
        shutil.copy(stored, tmp_path / name)
    pages = blocks(ROOT / "docs" / "write-a-behavior.md")
    haste = next(block.code for block in pages if block.text == "haste.toml")
    more = "".join(f'"Is it time, on day {day}?", ' for day in range(40))
    (tmp_path / "my.toml").write_text(haste.replace("prompts = [", f"prompts = [{more}"), encoding="utf-8")
    return tmp_path


def small(line: str) -> list[str]:
    """The arguments of an `isokl` line, made small."""
    line = re.sub(r"--model \S+", "--model tiny-qwen", line)
    with Store("isokl.db", read_only=True) as store:
        line = line.replace(RUN, store.rows("SELECT hash FROM latest")[0]["hash"][:12])
    for command, options in SMALL.items():
        line = re.sub(rf"^isokl {command}\b", f"isokl {command} {options}", line)
    words = shlex.split(line, comments=True)[1:]
    return words + ["--model", "tiny-qwen"] * (words[0] == "sweep" and "--model" not in words)


def run_line(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    if line.startswith("make "):
        assert shlex.split(line, comments=True)[1] in TARGETS, line
        return
    assert line.startswith("isokl "), f"not a line that runs here: {line}"
    args = small(line)
    code = invoke(args)
    said = capsys.readouterr().err
    assert "error:" not in said, f"{line}\n{said}"
    assert code == 0 or (code == 1 and args[0] in JUDGES), f"{line}\n{said}"


def run_block(block: Block, namespace: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    if block.mark == "file":
        Path(block.text).write_text(block.code, encoding="utf-8")
    if block.mark == "not run" or block.language == "text":
        return
    if block.language == "python":
        exec(compile(block.code, "block", "exec"), namespace)
    elif block.language == "toml":
        tomllib.loads(block.code)
    elif block.language == "sh":
        for line in re.split(r"\n|&&", block.code.replace("\\\n", "")):
            if line.strip() and not line.strip().startswith("#"):
                run_line(line.strip(), capsys)
    else:
        pytest.fail(f"a block of the language {block.language!r}: give python, sh, toml or text")


@pytest.fixture
def small_runs(monkeypatch):
    """`isokl_bench.run` makes small runs, too."""
    run = isokl_bench.run
    small = {
        "protocol": "published",
        "holdout_prompts": 2,
        "window": 6,
        "fit_prompts": 8,
        "alphas": (0.0, 1.0),
    }

    def small_run(model: str, method: str, **options: Any) -> isokl_bench.Record:
        return run("tiny-qwen", method, **options | small)

    monkeypatch.setattr(isokl_bench, "run", small_run, raising=False)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_blocks_run(path, folder, small_runs, capsys, monkeypatch):
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)
    for block in blocks(path):
        run_block(block, vars(page), capsys)
    if any(name.startswith("register_") for name in vars(page)):
        check_laws(page)


def check_laws(page: ModuleType) -> None:
    """What a page shows are plugins, and they hold the laws of their kind."""
    registry = Registry()
    registry.add(Source("page", "page", "1"), lambda: page)
    assert registry.failures == []
    entries = [entry for of_kind in registry.entries.values() for entry in of_kind.values()]
    assert entries
    for entry in entries:
        (subject,) = find(entry.name, registry)
        for law in subject.laws:
            with suppress(Skipped):
                law.check(subject.plugin)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_every_fence_belongs_to_a_block_that_is_seen(path):
    assert path.read_text(encoding="utf-8").count("```") == 2 * len(blocks(path))


def test_few_blocks_are_left_out_and_each_says_why():
    left_out = [block for path in PAGES for block in blocks(path) if block.mark == "not run"]
    assert len(left_out) == NOT_RUN
    assert all(len(block.text.split()) >= 3 for block in left_out)


COLUMNS = re.compile(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", re.M | re.S)


def documented() -> dict[str, list[str]]:
    """Columns of each table and view on the page, in its order."""
    page = (ROOT / "docs" / "store.md").read_text(encoding="utf-8")
    return {
        name: re.findall(
            r"`(\w+)`", " ".join(row.split("|")[1] for row in text.splitlines() if row.startswith("| `"))
        )
        for name, text in COLUMNS.findall(page)
    }


def test_every_column_of_the_store_is_documented(tmp_path):
    with Store(tmp_path / "isokl.db") as store:
        names = [row["name"] for row in store.rows("SELECT name FROM sqlite_master WHERE type = 'view'")]
        views = {name: store.query(f"SELECT * FROM {name}").columns for name in names}
    tables = {table.name: [column.name for column in table.columns] for table in metadata.sorted_tables}
    found = {name: sorted(columns) for name, columns in documented().items()}
    assert found == {name: sorted(columns) for name, columns in (views | tables).items()}


@pytest.mark.parametrize("kind", ["method", "stat", "metric"])
def test_every_plugin_has_its_docstring_on_the_site(kind, registry):
    page = (ROOT / "docs" / ("methods.md" if kind == "method" else "metrics.md")).read_text(encoding="utf-8")
    for entry in registry.entries[kind].values():
        cls = entry.component
        assert f"::: {cls.__module__}.{cls.__qualname__}\n" in page, entry.name
