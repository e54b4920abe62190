"""Whole runs through the Python API: what is stored, what is answered from the store, what a dead run leaves."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import isokl_bench
from isokl_bench.pipeline import calibration
from isokl_bench.pipeline.measuring import Measuring
from isokl_db import Store, StoreError
from isokl_registry import IsoklError, Measurement, Method, Metric, Stat
from tests import oracle
from tests.small import SMALL


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """One default run with both signs, all metrics, a shorter trajectory."""
    db = tmp_path_factory.mktemp("whole") / "isokl.db"
    metrics = ("target_logit", "base_nll", "branch_pmass", "kl_trajectory[window=60]")
    options = {
        "behavior": "authority",
        "metrics": metrics,
        "bidirectional": True,
        "alphas": (0, 0.5, 1, 2, 4),
    }
    return isokl_bench.run("tiny-qwen", "mean_diff", db=db, **options), db, options


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A small run that nothing disturbed, and its database, which is to be left as it is."""
    db = tmp_path_factory.mktemp("once") / "isokl.db"
    return isokl_bench.run("tiny-qwen", "pca", db=db, **SMALL), db


def test_calibration_is_on_target_by_the_oracle(whole, tiny):
    record = whole[0]
    found = record.calibration()
    assert found["outcome"] in ("converged", "jump")
    assert found["low"] <= found["coefficient"] <= found["high"]
    texts = [row["text"] for row in record.data["prompts"] if row["split"] == "calibration"]
    prompts = [tiny.chat.ids(text) for text in texts]
    value = oracle.kl_p95(
        tiny.model, tiny.blocks, record.steering(), found["coefficient"], prompts, 20, tiny.eos
    )
    assert value == pytest.approx(found["value"], abs=1e-3)
    if found["outcome"] == "converged":
        assert abs(value - 1.0) <= 0.05
    assert len(found["evaluations"]) >= 8
    rounds = {e["round"] for e in found["evaluations"]}
    assert rounds >= set(range(1, found["rounds"] + 1))  # rounds after those are for the interval


def test_both_signs_are_calibrated_and_measured(whole):
    record = whole[0]
    assert [c["sign"] for c in record.calibrations] == [1, -1]
    assert record.calibration(-1)["coefficient"] < 0 < record.coefficient
    assert set(record.summaries["sign"]) == {1, -1}


def test_validation_is_stored(whole):
    rows = whole[0].summaries.query("metric == 'validation' and sign == 1")
    assert set(rows["quantity"]) == {"holdout", "calibration_sampled", "holdout_sampled"}
    assert (rows["low"] <= rows["mean"]).all()
    assert (rows["n"] == 32).all()


def test_metrics_mean_what_they_say(whole):
    record = whole[0]
    kl = record.array("kl_trajectory[window=60]", "kl")
    assert kl.shape == (5, 32, 60)
    assert np.nanmax(np.abs(kl[0])) < 1e-5
    assert np.nanmedian(kl[4]) > np.nanmedian(kl[1])
    pmass = record.array("branch_pmass", "pmass")
    assert pmass.shape == (5, 32, 11)
    scored = pmass[~np.isnan(pmass)]
    assert ((scored >= 0) & (scored <= 1)).all()
    assert np.nanmean(pmass[0]) > 0.95
    assert np.nanmean(pmass[4]) < np.nanmean(pmass[0]) - 0.05
    logit = record.array("target_logit", "log_ratio")[..., 0]
    assert (logit[0] == 0).all()
    assert logit[2].mean() > 0  # towards the positive persona
    assert record.array("target_logit", "log_ratio", sign=-1)[2].mean() < logit[2].mean()
    ratio = record.array("base_nll", "nll_ratio")[..., 0]
    assert ratio[0] == pytest.approx(np.ones(32))
    nll = record.array("base_nll", "nll")[..., 0]
    assert ratio.mean(1) == pytest.approx(nll.mean(1) / nll[0].mean())
    assert ratio[4].mean() > ratio[2].mean()
    assert record.array("target_logit", "final_log_ratio")[2].mean() > 0
    flips = record.array("target_logit", "answer_flip")
    either = [record.array("target_logit", f"flip_to_{side}") for side in ("positive", "negative")]
    np.testing.assert_array_equal(flips, np.nansum(either, axis=0))
    assert (np.isnan(either).sum(0) == 1).all()  # every question could move to one side


def test_intervals_are_wilsons_of_shares_and_open_where_nothing_varies(whole):
    found = (
        whole[0].summaries.query("metric == 'target_logit' and sign == 1").set_index(["quantity", "alpha"])
    )
    none = found.loc[("answer_flip", 0.0)]
    assert (none["mean"], none["low"], none["high"]) == (0, 0, pytest.approx(0.107179, abs=1e-6))
    assert found.loc[[("log_ratio", 0.0)], ["low", "high"]].isna().all(axis=None)
    moved = found.loc[("log_ratio", 1.0)]
    assert moved["low"] < moved["mean"] < moved["high"]


def test_unscored_is_null_with_a_reason(whole):
    rows = whole[0].measurements
    assert (rows["value"].isna() == rows["reason"].notna()).all()
    assert rows["reason"].notna().any()


def test_traces_are_sampled_texts_with_their_kl(whole):
    traces = whole[0].traces
    assert set(traces["alpha"]) == {0, 0.5, 1, 2, 4}
    assert (traces["tokens"].map(len) == traces["kl"].map(len)).all()
    base = traces.query("alpha == 0")
    assert base["kl"].map(max).max() < 1e-5


def test_prompt_sets_are_disjoint_in_the_store(whole):
    _, db, _ = whole
    with Store(db, read_only=True) as store:
        rows = store.rows("select split, count(*) n, count(distinct sha256) d from prompts group by split")
        assert {(r["split"], r["n"], r["d"]) for r in rows} == {
            ("fit", 64, 64), ("calibration", 32, 32), ("holdout", 32, 32)
        }  # fmt: skip
        assert store.rows("select count(distinct sha256) n from prompts")[0]["n"] == 128


def test_second_call_answers_from_the_store(whole):
    record, db, options = whole
    events = []
    again = isokl_bench.run("tiny-qwen", "mean_diff", db=db, listen=events.append, **options)
    assert again.cached
    assert again.attempt == record.attempt
    assert [e.kind for e in events] == ["stored"]


def test_steering_is_stored_with_what_a_bare_vector_leaves_to_guessing(whole):
    metadata = whole[0].steering().metadata
    assert metadata["layers"] == [3]
    assert metadata["model"]["source"] == "tiny-qwen"
    calibrated = metadata["calibrated"]["+1"]
    assert calibrated["coefficient"] == whole[0].coefficient
    assert (calibrated["stat"], calibrated["target"], calibrated["protocol"]) == ("kl_p95", 1.0, "stable")


def numbers(record):
    keep = ("calibrations", "measurements", "summaries", "traces")
    return {key: record.data[key] for key in keep}


def test_same_configuration_same_numbers_bit_for_bit(once, tmp_path):
    first, second = once[0], isokl_bench.run("tiny-qwen", "pca", db=tmp_path / "isokl.db", **SMALL)
    assert first.hash == second.hash
    assert numbers(first) == numbers(second)
    assert first.steering_bytes == second.steering_bytes


def test_force_makes_a_new_attempt_and_keeps_the_old(once, tmp_path, small):
    first, db = once[0], Path(shutil.copy(once[1], tmp_path))
    second = isokl_bench.run("tiny-qwen", "pca", db=db, force=True, **small)
    assert second.attempt != first.attempt
    with Store(db, read_only=True) as store:
        assert [r["state"] for r in store.rows("select state from attempts")] == ["done", "done"]
        assert store.latest(first.hash) == second.attempt


def test_a_later_metric_or_alpha_needs_no_new_calibration(tmp_path, small, monkeypatch):
    db = tmp_path / "isokl.db"
    first = isokl_bench.run("tiny-qwen", "pca", db=db, **small | {"metrics": ("target_logit[window=5]",)})
    monkeypatch.setattr(calibration, "Calibrator", None)  # calling it would raise
    more = isokl_bench.run("tiny-qwen", "pca", db=db, **small | {"alphas": (0.0, 1.0, 2.0)})
    assert more.attempt == first.attempt
    assert not more.cached
    assert set(more.measurements.query("metric == 'target_logit[window=5]'")["alpha"]) == {0, 1, 2}
    assert more.array("base_nll[window=6]", "nll").shape == (3, 4, 1)
    assert isokl_bench.run("tiny-qwen", "pca", db=db, **small | {"alphas": (0.0, 1.0, 2.0)}).cached


def test_a_new_version_of_a_metric_replaces_its_numbers(tmp_path, small, registry, monkeypatch):
    db = tmp_path / "isokl.db"
    before = isokl_bench.run("tiny-qwen", "pca", db=db, **small)
    monkeypatch.setattr(registry.get("metric", "base_nll").component, "version", 2)
    after = isokl_bench.run("tiny-qwen", "pca", db=db, **small)
    assert not after.cached
    assert after.attempt == before.attempt
    assert len(after.measurements) == len(before.measurements)
    assert (after.array("base_nll[window=6]", "nll") == before.array("base_nll[window=6]", "nll")).all()


def test_two_processes_that_measure_the_same_both_end_well(tmp_path, small, monkeypatch):
    db = tmp_path / "isokl.db"
    isokl_bench.run("tiny-qwen", "pca", db=db, **small | {"metrics": ("target_logit[window=5]",)})
    measure = Measuring._measure

    def overtaken(self, *args):
        with monkeypatch.context() as patch:
            patch.setattr(Measuring, "_measure", measure)
            isokl_bench.run("tiny-qwen", "pca", db=db, **small)
        measure(self, *args)

    monkeypatch.setattr(Measuring, "_measure", overtaken)
    notes = []
    record = isokl_bench.run("tiny-qwen", "pca", db=db, listen=lambda e: notes.append(e.text), **small)
    assert "another process has stored this meanwhile" in notes
    assert record.array("base_nll[window=6]", "nll").shape == (2, 4, 1)


@dataclass(frozen=True)
class Broken(Metric):
    """Raises, or returns nonsense."""

    name: ClassVar[str] = "broken"
    how: str = "raise"

    def measure(self, session):
        if self.how == "raise":
            raise RuntimeError("my own\nfault")
        value = {"nan": np.nan, "share": 0.5}.get(self.how, np.inf)
        values = np.full((len(session.alphas), 4), value)
        yield Measurement("x", values if self.how != "shape" else values[0], share=self.how == "share")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raise", "metric 'broken' failed: my own fault"),
        ("nan", "without a reason"),
        ("inf", "returns infinity"),
        ("shape", "return [alpha, prompt]"),
        ("share", "as a share with other values than 0 and 1"),
    ],
)
def test_a_failing_metric_loses_nothing_else(tmp_path, small, registry, monkeypatch, how, message):
    entry = type(registry.get("metric", "base_nll"))("metric", "broken", Broken, None)
    monkeypatch.setitem(registry.entries["metric"], "broken", entry)
    db = tmp_path / "isokl.db"
    small["metrics"] = (
        "target_logit",
        f"broken[how={how}]" if how != "raise" else "broken",
        "base_nll[window=6]",
    )
    with pytest.raises(IsoklError) as error:
        isokl_bench.run("tiny-qwen", "pca", db=db, **small)
    assert message in str(error.value)
    small["metrics"] = ("target_logit", "base_nll[window=6]")
    assert isokl_bench.run("tiny-qwen", "pca", db=db, **small).cached


@dataclass(frozen=True)
class Listed(Method):
    """Has a list as a parameter."""

    name: ClassVar[str] = "listed"
    blocks: list[int] = field(default_factory=list)

    def fit(self, contrast):
        return {"v": contrast.difference.mean(0)}

    def edit(self, output, dose, input, state):
        return output + dose * state["v"]


@dataclass(frozen=True)
class Counted(Metric):
    """Has one too."""

    name: ClassVar[str] = "counted"
    points: tuple[int, ...] = ()
    words: list[str] = field(default_factory=list)

    def measure(self, session):
        yield Measurement("points", np.full((len(session.alphas), 4), float(sum(self.points))))


def test_parameters_may_be_lists(tmp_path, small, registry, monkeypatch):
    entry = type(registry.get("method", "pca"))
    monkeypatch.setitem(registry.entries["method"], "listed", entry("method", "listed", Listed, None))
    monkeypatch.setitem(registry.entries["metric"], "counted", entry("metric", "counted", Counted, None))
    metric, method = "counted[points=[1,2],words=['a,b']]", "listed[blocks=[3,4]]"
    for cached in (False, True):
        record = isokl_bench.run(
            "tiny-qwen", method, db=tmp_path / "isokl.db", **small | {"metrics": [metric, metric]}
        )
        assert record.cached == cached
    assert record.steering().method == Listed([3, 4])
    assert record.config["method"] == method
    assert set(record.measurements["metric"]) == {metric}
    assert set(record.measurements["value"]) == {3.0}


@dataclass(frozen=True)
class Nan(Method):
    """An edit that returns NaN at any dose but 0."""

    name: ClassVar[str] = "nan"

    def fit(self, contrast):
        return {"v": contrast.difference.mean(0)}

    def edit(self, output, dose, input, state):
        return output + dose * float("nan")


def test_a_method_of_nan_is_named_with_layer_and_dose(tmp_path, small, registry, monkeypatch):
    entry = type(registry.get("method", "pca"))("method", "nan", Nan, None)
    monkeypatch.setitem(registry.entries["method"], "nan", entry)
    db = tmp_path / "isokl.db"
    with pytest.raises(IsoklError, match=r"^nan gives NaN or infinity after block 3 at dose 0\.0001"):
        isokl_bench.run("tiny-qwen", "nan", db=db, **small)
    with Store(db, read_only=True) as store:
        row = store.rows("select state, error from attempts")[0]
    assert row["state"] == "failed"
    assert "NaN" in row["error"]


@dataclass(frozen=True)
class Late(Nan):
    """Adds a direction, but overflows above a limit."""

    name: ClassVar[str] = "late"
    limit: float = 1.0

    def edit(self, output, dose, input, state):
        v = state["v"] / state["v"].norm()
        return output + dose.where(dose <= self.limit, dose * float("nan")) * v


def test_an_alpha_of_nan_is_named_and_the_others_are_measured(tmp_path, small, registry, monkeypatch):
    db = tmp_path / "isokl.db"
    coefficient = isokl_bench.run("tiny-qwen", "mean_diff", db=db, **small).coefficient
    entry = type(registry.get("method", "pca"))("method", "late", Late, None)
    monkeypatch.setitem(registry.entries["method"], "late", entry)
    spec = f"late[limit={3 * coefficient:.1f}]"
    with pytest.raises(
        IsoklError, match=r"gives NaN or infinity after block 3 at dose .*Everything else is stored"
    ):
        isokl_bench.run("tiny-qwen", spec, db=db, **small | {"alphas": (0.0, 1.0, 4.0)})
    again = isokl_bench.run("tiny-qwen", spec, db=db, **small | {"alphas": (0.0, 1.0)})
    assert again.cached
    assert set(again.measurements["alpha"]) == {0, 1}


def test_a_full_disk_in_a_metric_leaves_the_run_to_be_taken_up(tmp_path, small, monkeypatch):
    db = tmp_path / "isokl.db"

    def full(self, *args):
        raise StoreError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(Measuring, "_measure", full)
        with pytest.raises(StoreError):
            isokl_bench.run("tiny-qwen", "pca", db=db, **small)
    with Store(db, read_only=True) as store:
        assert store.rows("select state from attempts") == [{"state": "running"}]
    assert isokl_bench.run("tiny-qwen", "pca", db=db, **small).attempt == 1


def test_constant_contrast_is_named(tmp_path, small):
    behavior = tmp_path / "same.toml"
    prompts = ", ".join(
        f'"Is it {word}?"'
        for word in [
            "a",
            "b",
            "c",
            "d",
            "e",
            "f",
            "g",
            "h",
            "i",
            "j",
            "k",
            "l",
            "m",
            "n",
            "o",
            "p",
            "q",
            "r",
            "s",
            "t",
        ]
    )
    behavior.write_text(
        f'prompts = [{prompts}]\n[answer]\nprefill = "Answer:"\npositive = [" Yes"]\nnegative = [" No"]\n'
        '[[personas]]\npositive = "Be quick."\nnegative = "Be slow."\n'
    )
    template = tmp_path / "deaf.jinja"  # a template that mentions the system message but shows no difference
    template.write_text(
        "{{ '' if messages[0].content != 'a-system-message' else 'a-system-message' }}{{ messages[-1].content }}"
    )
    with pytest.raises(IsoklError, match="pca cannot be fitted at block 3: the contrast is zero"):
        isokl_bench.run(
            "tiny-qwen",
            "pca",
            db=tmp_path / "isokl.db",
            behavior=str(behavior),
            chat_template=str(template),
            **small,
        )


def test_budget_not_reached_is_a_result(tmp_path, small):
    record = isokl_bench.run(
        "tiny-qwen", "directional_ablation", db=tmp_path / "isokl.db", target=500.0, **small
    )
    assert record.calibration()["outcome"] == "budget_not_reached"
    assert record.summaries.empty
    again = isokl_bench.run(
        "tiny-qwen", "directional_ablation", db=tmp_path / "isokl.db", target=500.0, **small
    )
    assert again.cached


def test_interrupt_is_taken_up_at_the_last_finished_phase(once, tmp_path, small, monkeypatch):
    db = tmp_path / "isokl.db"

    def stop(self, *args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Measuring, "_generate", stop)
        with pytest.raises(KeyboardInterrupt):
            isokl_bench.run("tiny-qwen", "pca", db=db, **small)
    monkeypatch.setattr(calibration, "Calibrator", None)
    events = []
    record = isokl_bench.run("tiny-qwen", "pca", db=db, listen=events.append, **small)
    assert events[0].text == "picking up attempt 1 after fit, calibrate +1"
    assert record.attempt == 1
    assert numbers(record) == numbers(once[0])


CHILD = """
import sys, isokl_bench
from tests.small import SMALL
isokl_bench.run("tiny-qwen", "pca", db=sys.argv[1], listen=lambda e: print(e.text, flush=True), **SMALL)
"""


@pytest.mark.parametrize("word", ["calibrating", "measuring base_nll"])
def test_kill_9_loses_no_finished_phase(once, tmp_path, small, word):
    db = tmp_path / "isokl.db"
    paths = os.pathsep.join([".", "plugins", "registry", "db"])
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(db)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    )
    for line in child.stdout:
        if line.startswith(word):
            child.send_signal(signal.SIGKILL)
            break
    child.stdout.close()
    assert child.wait() == -signal.SIGKILL
    with Store(db) as store:
        assert store.rows("pragma integrity_check") == [{"integrity_check": "ok"}]
        kept = [row["name"] for row in store.rows("select name from phases order by finished_at")]
    assert kept[0] == "fit"
    assert ("calibrate +1" in kept) == (word != "calibrating")
    record = isokl_bench.run("tiny-qwen", "pca", db=db, **small)
    assert record.attempt == 1
    assert numbers(record) == numbers(once[0])


def test_second_call_is_quick_without_torch(once):
    code = CHILD + "\nassert not {'torch', 'transformers', 'pandas', 'altair'} & set(sys.modules)"
    paths = os.pathsep.join([".", "plugins", "registry", "db"])
    before = os.times().children_user
    env = {**os.environ, "PYTHONPATH": paths}
    subprocess.run([sys.executable, "-c", code, str(once[1])], check=True, env=env)
    assert os.times().children_user - before < 2


def test_unknown_option_and_bad_database(tmp_path):
    with pytest.raises(IsoklError, match="metod"):
        isokl_bench.run("tiny-qwen", "pca", metod="x")
    bad = tmp_path / "bad.db"
    bad.write_text("this is no database, and it is long enough to be told from one" * 20)
    with pytest.raises(StoreError):
        isokl_bench.run("tiny-qwen", "pca", db=bad, **SMALL)


def test_a_stat_that_needs_no_base_is_never_handed_one(tmp_path, small, registry, monkeypatch):
    handed = []

    @dataclass(frozen=True)
    class Top(Stat):
        """The largest KL of all tokens."""

        name: ClassVar[str] = "top"
        target: ClassVar[float] = 4.0
        needs_base: ClassVar[bool] = False

        def __call__(self, steered, base):
            handed.append(np.isnan(base.kl).all() and np.isnan(base.nll).all())
            return np.nanmax(steered.kl, axis=(-2, -1))

    entry = dataclasses.replace(registry.get("stat", "kl_max"), name="top", component=Top)
    monkeypatch.setitem(registry.entries["stat"], "top", entry)
    record = isokl_bench.run("tiny-qwen", "pca", db=tmp_path / "isokl.db", stat="top", **small)
    assert not record.summaries.query("metric == 'validation'").empty
    assert len(handed) > 10
    assert all(handed)
