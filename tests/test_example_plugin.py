"""A stranger's method and metric, from `pip install` to a report, beside a stranger's plugin that is broken."""

from __future__ import annotations

import csv
import io
import json
from itertools import product
from pathlib import Path

import pytest

from isokl_db import Store
from tests.scratch import Scratch

EXAMPLE = Path(__file__).with_name("example_plugin")
BROKEN = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "isokl-sibling"
version = "0.0.7"

[project.entry-points.isokl]
sibling = "isokl_sibling"
"""
REPORT = "plugin 'sibling' (isokl-sibling 0.0.7) is left out: ModuleNotFoundError: No module named 'no_such_module'"
RUN = {
    "--method": "median_diff",
    "--model": "tiny-qwen",
    "--protocol": "published",
    "--window": "8",
    "--fit-prompts": "8",
    "--alphas": "1",
    "--metric": "base_nll",
    "--db": "stored.db",
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """An environment with the example and its broken sibling."""
    sibling = tmp_path_factory.mktemp("sibling")
    (sibling / "pyproject.toml").write_text(BROKEN)
    (sibling / "isokl_sibling.py").write_text("import no_such_module\n")
    scratch = Scratch(tmp_path_factory.mktemp("scratch"))
    scratch.pip_install(EXAMPLE, sibling)
    return scratch


def test_a_method_and_a_metric_fit_in_eighty_lines():
    (module,) = EXAMPLE.glob("*.py")
    assert len(module.read_text(encoding="utf-8").splitlines()) <= 80


def test_plugins_lists_the_stranger_and_reports_the_broken_one(scratch, tmp_path):
    done = scratch.isokl("plugins", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip()]
    rows = dict(line for line in lines if len(line) == 2)
    assert rows["median_diff"].rstrip().endswith("isokl-example 1.2.3")
    assert rows["pca"].rstrip().split()[-2] == "isokl-bench"
    assert REPORT in done.stdout.splitlines()


def test_plugins_json(scratch, tmp_path):
    listed = json.loads(scratch.isokl("plugins", "--json", cwd=tmp_path).stdout)
    (found,) = (m for m in listed["components"]["method"] if m["name"] == "median_diff")
    assert found == {
        "name": "median_diff",
        "summary": "Adds the median difference of the contrast pairs: y + c·v, v = median(P − N), unit.",
        "plugin": "example",
        "distribution": "isokl-example",
        "version": "1.2.3",
    }
    assert [failure["plugin"] for failure in listed["failures"]] == ["sibling"]


def test_run_stores_the_strangers_method(scratch, tmp_path):
    done = scratch.isokl("run", *(word for option in RUN.items() for word in option), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"warning: {REPORT}" in done.stderr.splitlines()
    with Store(tmp_path / "stored.db", read_only=True) as store:
        (run,) = store.query(
            'select attempt_id, state, method, model, protocol, "window" from runs'
        ).as_dicts()
        record = store.record(run["attempt_id"])
        steering = store.attempt(run["attempt_id"]).steering()
    assert (run["state"], run["method"], run["model"]) == ("done", "median_diff", "tiny-qwen")
    assert (run["protocol"], run["window"]) == ("published", 8)
    (calibration,) = record["calibrations"]
    assert calibration["outcome"] in ("converged", "jump")
    assert calibration["coefficient"] > 0
    assert {m["alpha"] for m in record["measurements"]} == {0.0, 1.0}
    assert steering
    assert b"median_diff" in steering


def test_reports_show_the_strangers_metric(scratch, tmp_path):
    """Two methods on two behaviors, so that there is a leaderboard; not a line of the reports knows the metric."""
    options = RUN | {"--metric": "target_logit[window=5]", "--holdout-prompts": "8"}
    words = [word for option in options.items() for word in option]
    shown = ""
    for method, behavior in product(("median_diff", "random"), ("sentiment", "honesty")):
        more = ("--method", method, "--behavior", behavior, "--metric", "worst_token[window=6]")
        done = scratch.isokl("run", *words, *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        shown += done.stdout
    assert shown.count("worst token") >= 4  # in the summary of each run
    done = scratch.isokl("report", "--db", "stored.db", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "report"
    for name, title in (
        ("table1.md", "Δ worst token (nats), α = 1"),
        ("leaderboard.md", "Δ worst token (nats)"),
    ):
        (line,) = (
            line for line in (folder / name).read_text().splitlines() if "worst token" in line and "|" in line
        )
        assert f"| {title} |" in line
    rows = list(csv.DictReader(io.StringIO((folder / "table1.csv").read_text())))
    with Store(tmp_path / "stored.db", read_only=True) as store:
        stored = store.query(
            "SELECT mean FROM result_summaries WHERE metric = 'worst_token[window=6]' AND quantity = 'worst_change' "
            "AND alpha = 1 ORDER BY model, behavior, method"
        ).rows
    assert [float(row["worst_change_alpha1"]) for row in rows] == [mean for (mean,) in stored]
    board = list(csv.DictReader(io.StringIO((folder / "leaderboard.csv").read_text())))
    assert {row["method"] for row in board} == {"median_diff", "random"}
    assert all(float(row["worst_change"]) > -20 for row in board)
