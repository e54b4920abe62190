"""Sweeps: what a grid is made of, what is run of it, and what is said of it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from importlib.resources import files

import pytest

from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.model_cache import ModelCache
from isokl_bench.sweep.grid import KEYS, OPTIONS, PRESETS, cells, read_file, read_preset
from isokl_bench.sweep.plan import estimate, plan_cells, to_run
from isokl_bench.sweep.run import run_cells
from isokl_bench.sweep.worker import CellResult, own_gpu
from isokl_db import Store, StoreError
from isokl_plugins.behaviors.toml_file import TomlBehavior
from isokl_plugins.models.tiny.plugin import TinyModel
from isokl_registry import IsoklError, Site
from tests.scratch import ISOKL
from tests.small import SMALL

GRID = {"model": "tiny-qwen", "method": ["mean_diff", "pca"], "seed": [0, 1], **SMALL}


def write(path, text):
    path.write_text(text)
    return path


def test_a_grid_is_every_combination_with_models_outermost_and_methods_innermost():
    grid = cells({"method": ["a", "b"], "seed": [0, 1], "model": ["x", "y"], "behavior": "z"})
    assert [(c.model, c.seed, c.method) for c in grid] == [
        (model, seed, method) for model in "xy" for seed in (0, 1) for method in "ab"
    ]
    assert {c.behavior for c in grid} == {"z"}


def test_later_sources_replace_earlier_ones():
    grid = cells(read_preset("paper"), {"model": ("mine",), "seed": (5,)})
    assert {c.model for c in grid} == {"mine"}
    assert {c.seed for c in grid} == {5}
    assert len(grid) == 3 * 2


def test_the_leaderboard_has_every_method_and_behavior(registry):
    grid = cells(read_preset("leaderboard"))
    methods = {name: entry.component for name, entry in registry.entries["method"].items()}
    twins = {name for name, method in methods.items() if getattr(method, "same_as", "")}
    assert twins == {"pca_center"}
    assert {c.method for c in grid} == methods.keys() - twins
    assert {c.behavior for c in grid} == set(registry.entries["behavior"])
    assert len(grid) == 16 * 4


TINY = {"tiny-qwen", "tiny-llama", "tiny-gemma"}


@pytest.mark.parametrize(
    ("name", "models"), [("paper", {"smollm2"}), ("paper-published", {"smollm2"}), ("tiny", TINY)]
)
def test_presets_are_the_grid_of_the_specification(name, models):
    grid = cells(read_preset(name))
    assert len(grid) == len(models) * 3 * 3 * 2
    assert {c.model for c in grid} == models
    assert {c.method for c in grid} == {"mean_diff", "pca", "directional_ablation"}
    assert {(c.seed, c.window) for c in grid} == {(s, w) for s in (0, 1, 2) for w in (20, 50)}
    assert {c.protocol for c in grid} == {"published" if name.endswith("published") else "stable"}
    plain = RunConfig(model="any", method="any")
    assert {(c.stat, c.target, c.metrics, c.alphas) for c in grid} == {
        (plain.stat, None, plain.metrics, plain.alphas)
    }


def test_a_file_has_lists_for_axes_and_one_value_for_the_rest(tmp_path):
    file = write(
        tmp_path / "s.toml", 'model = "m"\nmethod = ["a"]\nwindow = [5, 6]\nalphas = [0, 1]\ntolerance = 1\n'
    )
    grid = cells(read_file(file))
    assert [c.window for c in grid] == [5, 6]
    assert {(c.alphas, c.tolerance) for c in grid} == {((0, 1), 1)}


def test_keys_of_a_file_are_the_options_of_a_run(tmp_path):
    from isokl_bench.cli.run import run

    options = {option.opts[0].removeprefix("--").replace("-", "_") for option in run.params}
    assert options - set(KEYS) == {"db", "force", "quiet", "json"}
    assert set(KEYS) <= options
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in EVERY_KEY.items())
    assert EVERY_KEY.keys() == set(KEYS)
    (config,) = cells(read_file(write(tmp_path / "s.toml", text)))
    for key, value in EVERY_KEY.items():
        got = getattr(config, OPTIONS.get(key, key))
        assert (list(got) if isinstance(got, tuple) else got) == value


EVERY_KEY = {
    "model": "m",
    "method": "a",
    "revision": "main",
    "behavior": "b",
    "layers": "3,5",
    "stat": "kl_mean",
    "target": 0.5,
    "tolerance": 0.1,
    "protocol": "published",
    "window": 6,
    "seed": 3,
    "position": "prompt",
    "fit_prompts": 8,
    "calibration_prompts": 4,
    "holdout_prompts": 5,
    "alphas": [0, 1],
    "metric": ["base_nll"],
    "bidirectional": True,
    "dtype": "bfloat16",
    "device": "cpu",
    "chat_template": "plain",
}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modle = 'x'", "unknown key 'modle': did you mean 'model'"),
        ("metrc = ['x']", "did you mean 'metric'"),
        ("fit-prompts = 8", "did you mean 'fit_prompts'"),
        ("metric = ['x']\nmetrics = ['y']", "metric and metrics are one"),
        ("metric = 'x'", "metrics is 'x': give a list, even of one"),
        ("tolerance = [0.1, 0.2]", "tolerance is a list"),
        ("seed = ['one']", "seed is 'one': give a whole number"),
        ("seed = true", "seed is True: give a whole number"),
        ("window = 2.5", "window is 2.5: give a whole number"),
        ("alphas = 1", "alphas is 1: give a list"),
        ("target = 1" + "0" * 400, "give a number"),
        ("target = 1" + "0" * 5000, "not valid TOML: Exceeds the limit"),
        ("target = " + "[" * 5000 + "]" * 5000, "is nested too deeply"),
        ("model = ", "not valid TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path, text, words):
    with pytest.raises(IsoklError, match=r"sweep file .*s\.toml") as error:
        read_file(write(tmp_path / "s.toml", text))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "a"}, "the sweep has no model"),
        ({"model": "a"}, "the sweep has no method"),
        ({"model": [], "method": "a"}, "model of the sweep is empty"),
        ({"model": "a", "method": ["b", "b"]}, "has 'b' twice"),
    ],
)
def test_a_grid_that_is_none_is_refused(values, words):
    with pytest.raises(IsoklError, match=words):
        cells(values)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_how_many_runs_it_has(name):
    text = (files("isokl_bench.sweep") / "presets" / f"{name}.toml").read_text()
    assert f": {len(cells(read_preset(name)))} runs" in text.splitlines()[0]


def test_an_unknown_preset_is_named():
    with pytest.raises(IsoklError, match="unknown preset 'papr': did you mean 'paper'"):
        read_preset("papr")


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A grid of four cells, run by two workers."""
    db = tmp_path_factory.mktemp("swept") / "isokl.db"
    told = []
    from isokl_registry import load_registry

    with Store(db) as store:
        planned = plan_cells(cells(GRID), store, load_registry())
    return db, planned, list(run_cells(planned, db, jobs=2, tell=told.append)), told


def test_every_cell_is_run_once_and_says_what_it_found(swept):
    db, planned, ended, _ = swept
    assert {cell.index for cell, _ in ended} == {0, 1, 2, 3}
    assert {result.state for _, result in ended} == {"done"}
    with Store(db, read_only=True) as store:
        assert [row["n"] for row in store.rows("select count(*) n from attempts group by config_hash")] == [
            1
        ] * 4
        for one, result in ended:
            row = store.rows("select * from results where hash = :hash", hash=one.hash)[0]
            assert result.attempt == row["attempt_id"]
            assert result.found[0]["coefficient"] == row["coefficient"]
    assert [cell.label for cell in planned] == [
        f"tiny-qwen · seed {seed} · {method}" for seed in (0, 1) for method in ("mean_diff", "pca")
    ]


def test_workers_tell_how_far_they_are(swept):
    told = swept[3]
    assert {progress.cell for progress in told} == {0, 1, 2, 3}
    assert all(0 <= progress.share <= 1 for progress in told)
    assert any("round 1" in progress.text for progress in told)


def test_numbers_are_those_of_a_run_alone(swept, tmp_path):
    import isokl_bench

    db, _, ended, _ = swept
    one, result = next(pair for pair in ended if pair[0].config.seed == 1 and pair[0].config.method == "pca")
    alone = isokl_bench.run("tiny-qwen", "pca", db=tmp_path / "alone.db", seed=1, **SMALL)
    with Store(db, read_only=True) as store:
        record = store.record(result.attempt)
    assert alone.hash == one.hash
    assert record["calibrations"] == alone.data["calibrations"]
    assert record["measurements"] == alone.data["measurements"]


def test_what_is_stored_is_not_run_again_and_what_is_new_is(swept, registry):
    db, _, _, _ = swept
    more = cells(GRID | {"seed": [0, 1, 2]})
    with Store(db, read_only=True) as store:
        planned = plan_cells(more, store, registry)
        assert [cell.state for cell in planned] == ["stored"] * 4 + ["missing"] * 2
        todo = to_run(planned, False)
        assert [cell.config.seed for cell in todo] == [2, 2]
        past = [row["seconds"] for row in store.rows("select seconds from runs")]
        assert estimate(todo, store, 2) == pytest.approx(sum(past) / 4)
        wider = plan_cells(cells(GRID | {"alphas": (0.0, 1.0, 2.0)}), store, registry)
        assert {cell.state for cell in wider} == {"missing"}  # an alpha is lacking


def test_a_failed_cell_waits_to_be_asked_for(tmp_path, registry):
    config = cells(GRID | {"seed": 0, "method": "pca"})
    with Store(tmp_path / "isokl.db") as store:
        plan = plan_cells(config, store, registry)[0].plan
        attempt = store.begin(plan.identity, prompts=plan.splits.texts(), provenance={})
        attempt.fail("it broke")
        planned = plan_cells(config, store, registry)
        assert (planned[0].state, planned[0].error) == ("failed", "it broke")
        assert to_run(planned, False) == []
        assert to_run(planned, True) == planned
        store.begin(plan.identity, prompts=plan.splits.texts(), provenance={}).fail("interrupted")
        assert plan_cells(config, store, registry)[0].state == "missing"


def test_planning_looks_up_once_what_cells_share(registry, monkeypatch):
    asked = Counter()

    def counted(kind, method):
        return lambda self, *args: asked.update([kind]) or method(self, *args)

    for kind, owner, name in (("prompts", TomlBehavior, "load"), ("model", TinyModel, "identity")):
        monkeypatch.setattr(owner, name, counted(kind, getattr(owner, name)))
    grid = {
        "model": ["tiny-qwen", "tiny-llama"],
        "method": ["pca", "mean_diff"],
        "behavior": ["sentiment", "honesty"],
    }
    begun = time.process_time()
    planned = plan_cells(cells(grid | {"seed": list(range(63)), "window": [20, 50]}), None, registry)
    assert len({cell.hash for cell in planned}) == len(planned) == 1008
    assert asked == {"prompts": 2, "model": 2}
    assert time.process_time() - begun < 10  # it takes 0.3 s; in the square of the cells it was 20


def test_another_executor_gets_cells_and_gives_results(tmp_path, registry):
    planned = plan_cells(cells(GRID), None, registry)
    asked = []

    def elsewhere(todo, db, tell):
        asked.append([cell.index for cell in todo])
        for one in todo:
            yield one, CellResult("taken" if one.index == 2 and len(asked) == 1 else "failed", "no GPU there")

    ended = list(run_cells(planned, tmp_path / "isokl.db", executor=elsewhere))
    assert asked == [[0, 1, 2, 3], [2]]  # what another process was at is asked for once more
    assert [result.state for _, result in ended] == ["failed"] * 4
    with Store(
        tmp_path / "isokl.db", read_only=True
    ) as store:  # the failure is stored though no worker could
        assert [row["error"] for row in store.rows("select error from runs")] == ["no GPU there"] * 4


def test_a_model_is_loaded_once_and_activations_are_recorded_once(registry, monkeypatch):
    from isokl_bench.engine import activations
    from isokl_bench.pipeline import model_cache
    from isokl_bench.pipeline.plan import resolve

    loads, records = [], []
    load, record = model_cache.load_model, activations.record
    monkeypatch.setattr(model_cache, "load_model", lambda plan, tell: loads.append(plan) or load(plan, tell))
    monkeypatch.setattr(activations, "record", lambda *args: records.append(args) or record(*args))
    bench = ModelCache()
    qwen, again, llama = (
        resolve(RunConfig(model=model, method=method, **SMALL), registry)
        for model, method in (("tiny-qwen", "pca"), ("tiny-qwen", "mean_diff"), ("tiny-llama", "pca"))
    )
    first = bench.model(qwen)
    assert bench.model(again) is first
    rows = [[1, 2, 3], [4, 5]]
    found = bench.activations(first, rows, [Site(1)])
    assert bench.activations(first, rows, [Site(1)])[Site(1)] is found[Site(1)]
    assert len(records) == 1
    bench.activations(first, rows, [Site(2)])
    bench.activations(bench.model(llama), rows, [Site(1)])
    assert len(records) == 3
    assert len(loads) == 2


def test_each_worker_has_a_gpu_of_its_own_where_there_are_several(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert own_gpu(0) is None  # "auto" finds it
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [own_gpu(number) for number in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]


@pytest.mark.parametrize("jobs", [1, 6])
def test_cores_are_divided_among_the_workers(monkeypatch, tmp_path, registry, jobs):
    monkeypatch.delenv("OMP_NUM_THREADS")
    db = tmp_path / "isokl.db"
    planned = plan_cells(cells(GRID | {"seed": 0}), None, registry)
    assert {result.state for _, result in run_cells(planned, db, jobs=jobs)} == {"done"}
    with Store(db, read_only=True) as store:
        rows = store.rows("select provenance, pid from attempts")
    assert len({row["pid"] for row in rows}) == min(jobs, 2)  # never more workers than cells
    threads = {json.loads(row["provenance"])["threads"] for row in rows}
    assert threads == {max(1, len(os.sched_getaffinity(0)) // min(jobs, 2))}


def test_what_cannot_be_a_sweep_is_refused(tmp_path, registry):
    twice = cells(GRID | {"seed": 0, "method": ["pca", "pca[]"]})
    with pytest.raises(IsoklError, match="are the same run, written differently"):
        plan_cells(twice, None, registry)
    planned = plan_cells(cells(GRID), None, registry)
    with pytest.raises(StoreError, match="a database in memory cannot be shared"):
        list(run_cells(planned, "sqlite://"))


def isokl(*args, cwd):
    return subprocess.run([ISOKL, *map(str, args)], cwd=cwd, capture_output=True, text=True)


def test_the_command_plans_without_running_and_answers_from_the_store(swept, tmp_path):
    db = swept[0]
    text = "".join(
        f"{key} = {json.dumps(value)}\n" for key, value in (GRID | {"seed": [0, 1, 2]}).items()
    ).replace("(", "[")
    file = write(tmp_path / "grid.toml", text)
    plan = isokl("sweep", file, "--db", db, "--dry-run", cwd=tmp_path)
    assert plan.returncode == 0, plan.stderr
    lines = plan.stdout.splitlines()
    assert lines[0] == "stored   tiny-qwen · seed 0 · mean_diff"
    assert lines[-1].startswith("6 cells: 4 stored already, 2 to run, about ")
    as_json = isokl("sweep", file, "--db", db, "--dry-run", "--json", cwd=tmp_path)
    assert [json.loads(line)["state"] for line in as_json.stdout.splitlines()] == ["stored"] * 4 + [
        "missing"
    ] * 2
    stored = isokl("sweep", file, "--db", db, "--seed", 0, "--seed", 1, "--json", cwd=tmp_path)
    assert stored.returncode == 0, stored.stderr
    assert json.loads(stored.stdout) == {"event": "sweep", "cells": 4, "stored": 4, "not_stored": []}
    assert isokl("sweep", file, "--db", tmp_path / "none.db", "--dry-run", cwd=tmp_path).returncode == 0
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sweep", "the sweep has no model: give --model"),
        ("sweep none.toml", "sweep file none.toml does not exist"),
        ("sweep --preset papr", "did you mean 'paper'"),
        ("sweep --preset tiny --model tiny-qwenn --dry-run", "tiny-qwenn"),
        ("sweep --preset tiny --method pcaa", "did you mean 'pca'"),
        ("sweep --preset tiny --window 0", "0 is not in the range"),
        ("sweep --preset tiny --jobs 0", "0 is not in the range"),
        ("sweep --preset tiny --alphas=", "write numbers with commas"),
    ],
)
def test_a_wrong_command_is_one_line_and_starts_nothing(tmp_path, line, words):
    done = isokl(*line.split(), cwd=tmp_path)
    assert done.returncode in (1, 2)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    if (tmp_path / "isokl.db").exists():
        with Store(tmp_path / "isokl.db", read_only=True) as store:
            assert store.rows("select * from attempts") == []
