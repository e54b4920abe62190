"""The distance between calibration and evaluation: every source against what is stored already, or the slow way."""

from __future__ import annotations

import json
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import isokl_bench
from isokl_bench.cli import invoke
from isokl_bench.generalization import runner as gap_runner
from isokl_bench.generalization.sources import sources
from isokl_db import Calibration, Store
from isokl_plugins.models.tiny import lexicon
from isokl_plugins.models.tiny.plugin import TinyModel
from isokl_registry import IsoklError, Stat
from tests import oracle
from tests.small import SMALL

ROWS = [
    "calibration", "more_prompts", "other_prompts", "behavior_honesty", "behavior_sycophancy", "behavior_authority",
    "window_2x", "window_5x", "seed_1", "seed_2", "sampled", "teacher_forced",
]  # fmt: skip
QUICK = SMALL | {"metrics": ("target_logit[window=5]",)}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A small run of both signs, its database, and its gap."""
    db = tmp_path_factory.mktemp("gap") / "isokl.db"
    record = isokl_bench.run("tiny-qwen", "pca", db=db, bidirectional=True, **SMALL)
    return record, db, isokl_bench.gap(record.hash[:8], db=db)


@pytest.fixture
def copied(both, tmp_path):
    """The database of that run without its gap."""
    with sqlite3.connect(both[1]) as source, sqlite3.connect(tmp_path / "isokl.db") as target:
        source.backup(target)
        target.execute("delete from phases where name like 'gap%'")
        target.execute("delete from summaries where metric = 'gap'")
    source.close()
    target.close()
    return tmp_path / "isokl.db"


def row(found, source, sign=1):
    return found[(found["source"] == source) & (found["sign"] == sign)].iloc[0]


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_stored_already_comes_out_again(both, sign):
    record, _, found = both
    first = found[found["sign"] == sign].iloc[0]
    assert first["source"] == "calibration"
    assert first["value"] == pytest.approx(record.calibration(sign)["value"], abs=1e-3)
    rows = record.summaries.query("metric == 'validation' and sign == @sign").set_index("quantity")
    for source, quantity in [("other_prompts", "holdout"), ("sampled", "calibration_sampled")]:
        here, stored = row(found, source, sign), rows.loc[quantity]
        assert here["n"] == stored["n"]
        for ours, theirs in [("value", "mean"), ("low", "low"), ("high", "high")]:
            assert here[ours] == pytest.approx(stored[theirs], abs=1e-4, nan_ok=True)


def test_rows_are_complete(both):
    found = both[2]
    assert found["source"].tolist() == ROWS * 2
    assert found["sign"].tolist() == [1] * 12 + [-1] * 12
    assert (found["ratio"] == found["value"] / 1.0).all()
    assert (found["low"].fillna(-np.inf) <= found["value"]).all()  # open ends are NaN
    assert (found["value"] <= found["high"].fillna(np.inf)).all()
    assert found["reason"].isna().all()
    sizes = dict(zip(found["source"], zip(found["n"], found["tokens"], strict=True), strict=True))
    assert sizes == dict.fromkeys(ROWS, (4, 6)) | {
        "more_prompts": (16, 6), "window_2x": (4, 12), "window_5x": (4, 30)
    }  # fmt: skip


def test_each_source_changes_one_thing(registry):
    from isokl_bench.pipeline.config import RunConfig
    from isokl_bench.pipeline.plan import resolve

    plan = resolve(RunConfig("tiny-qwen", "pca", seed=7, calibration_prompts=10, holdout_prompts=6), registry)
    texts = plan.splits.texts()
    found = {source.name: source for source in sources(plan, registry)}
    for name in ("calibration", "window_2x", "window_5x", "sampled", "teacher_forced"):
        assert found[name].prompts == texts["calibration"]
    assert {s.tokens for s in found.values()} == {20, 40, 100}
    assert {n: s.reading for n, s in found.items() if s.reading != "greedy"} == {
        "sampled": "sampled", "teacher_forced": "base"
    }  # fmt: skip
    more = found["more_prompts"].prompts
    assert more[:16] == texts["calibration"] + texts["holdout"]
    assert len(set(more) - set(texts["fit"])) == len(more) == 40
    assert {p.text for p in plan.prompts.prompts} >= set(more)
    seeds = [found[f"seed_{seed}"].prompts for seed in (8, 9)]
    assert [len(set(prompts) - set(texts["fit"])) for prompts in seeds] == [10, 10]
    assert set(seeds[0]) != set(seeds[1])
    honest = {p.text for p in registry.behavior("honesty").load("town").prompts}
    assert len(set(found["behavior_honesty"].prompts) & honest) == 10


def test_more_prompts_are_all_that_there_are(registry):
    from isokl_bench.pipeline.config import RunConfig
    from isokl_bench.pipeline.plan import resolve

    plan = resolve(RunConfig("tiny-qwen", "pca", calibration_prompts=100, holdout_prompts=50), registry)
    assert len(next(s for s in sources(plan, registry) if s.name == "more_prompts").prompts) == 216 - 64


@torch.inference_mode()
def slow_along_base(tiny, steering, dose, prompt, window):
    """KL, and −log p_base of what the steered and the base model find likeliest, at every token of the base text."""
    written = oracle.trajectory(tiny.model, tiny.blocks, steering, 0.0, prompt, window, tiny.eos)[
        "tokens"
    ].tolist()
    rows = []
    for t in range(len(written)):
        ids = torch.tensor([[*prompt, *written[:t]]])
        with oracle.steered(tiny.model, tiny.blocks, steering, dose):
            log_s = tiny.model(input_ids=ids, use_cache=False).logits[0, -1].float().log_softmax(-1)
        log_b = tiny.model(input_ids=ids, use_cache=False).logits[0, -1].float().log_softmax(-1)
        kl = (log_s.exp() * (log_s - log_b)).sum()
        rows.append([float(kl), float(-log_b[log_s.argmax()]), float(-log_b[written[t]])])
    return rows


def test_teacher_forced_is_the_slow_way_quicker(both, tiny, monkeypatch):
    """On texts of which some end, so that their last positions reach into the prompt."""
    record = both[0]
    texts = [p["text"] for p in record.data["prompts"]][:4]
    short = [form.format(t="lake") for form in lexicon.SHORT_FORMS[:2]]
    prompts = [tiny.chat.ids(text) for text in [*texts, *short]]
    slow = [slow_along_base(tiny, record.steering(), 100.0, prompt, 12) for prompt in prompts]
    assert len({len(rows) for rows in slow}) > 1
    for batch in (1000, 4):
        monkeypatch.setattr(tiny, "max_rows", lambda *a, size=batch, **k: size)
        found = gap_runner.along_base(tiny, prompts, record.steering(), 100.0, 12)
        steered, base = found.steered, found.base
        for i, rows in enumerate(slow):
            found = np.stack([steered.kl[i], steered.nll[i], base.nll[i]], 1)
            assert np.isnan(found[: 12 - len(rows)]).all()
            assert found[12 - len(rows) :] == pytest.approx(np.array(rows), abs=1e-4)
            assert np.nanmax(np.abs(base.kl[i])) < 1e-6


def test_teacher_forced_row_is_the_slow_one(both, tiny):
    record, _, found = both
    prompts = [tiny.chat.ids(p["text"]) for p in record.data["prompts"] if p["split"] == "calibration"]
    pool = [
        kl for p in prompts for kl, *_ in slow_along_base(tiny, record.steering(), record.coefficient, p, 6)
    ]
    here = row(found, "teacher_forced")
    assert here["value"] == pytest.approx(np.quantile(pool, 0.95), abs=1e-3)


def test_stat_that_needs_the_base(tmp_path, tiny):
    """And of one prompt there is no interval."""
    db = tmp_path / "isokl.db"
    options = QUICK | {"stat": "nll", "target": 0.3, "calibration_prompts": 1, "holdout_prompts": 8}
    record = isokl_bench.run("tiny-qwen", "pca", db=db, **options)
    found = isokl_bench.gap(1, db=db)
    (text,) = [p["text"] for p in record.data["prompts"] if p["split"] == "calibration"]
    slow = slow_along_base(tiny, record.steering(), record.coefficient, tiny.chat.ids(text), 6)
    forced = row(found, "teacher_forced")
    assert forced["value"] == pytest.approx(np.mean([s - b for _, s, b in slow]), abs=1e-4)
    assert forced["ratio"] == pytest.approx(forced["value"] / 0.3)
    assert forced[["low", "high"]].isna().all()
    assert row(found, "other_prompts")[["low", "high"]].notna().all()


def test_second_call_loads_no_model(both, monkeypatch):
    record, db, found = both
    monkeypatch.setattr(gap_runner, "load_model", None)  # calling it would raise
    monkeypatch.setattr(TinyModel, "weights", None)
    events = []
    again = isokl_bench.gap(record.attempt, db=db, listen=events.append)
    assert again.equals(found)
    assert [event.kind for event in events] == ["stored"]


def test_stored_as_one_phase_per_sign(both):
    with Store(both[1], read_only=True) as store:
        phases = [name for name in store.attempt(both[0].attempt).phases() if name.startswith("gap")]
        assert phases == ["gap +1", "gap -1"]
        query = "select quantity, alpha from summaries where metric = 'gap' and sign = -1"
        assert {(r["quantity"], r["alpha"]) for r in store.rows(query)} == {(name, 1.0) for name in ROWS}


def test_progress_goes_up_to_one(copied):
    events = []
    isokl_bench.gap(1, db=copied, listen=events.append)
    progress = [event.progress for event in events]
    assert progress == sorted(progress)
    assert progress[-1] == pytest.approx(1.0)


def test_a_run_that_was_fitted_at_the_end_of_the_prompt_has_a_gap_too(tmp_path):
    db = tmp_path / "isokl.db"
    isokl_bench.run("tiny-qwen", "pca", db=db, position="prompt", **QUICK)
    assert isokl_bench.gap(1, db=db)["source"].tolist() == ROWS


def test_a_model_that_has_changed_is_refused(copied, monkeypatch):
    monkeypatch.setattr(TinyModel, "weights", lambda self, folder: {"weights": "others"})
    with pytest.raises(IsoklError, match=r"the model tiny-qwen has changed since run [0-9a-f]{12}"):
        isokl_bench.gap(1, db=copied)


def test_a_stat_that_has_changed_is_refused(copied, registry, monkeypatch):
    component: type[Stat] = registry.get("stat", "kl_p95").component
    monkeypatch.setattr(component, "version", 2)
    with pytest.raises(IsoklError, match="the stat kl_p95 has changed since run"):
        isokl_bench.gap(1, db=copied)


def test_a_calibration_that_does_not_come_out_again_stores_nothing(copied):
    with sqlite3.connect(copied) as connection:
        connection.execute("update calibrations set value = value + 0.002")
    connection.close()
    with pytest.raises(IsoklError, match="does not come out again"):
        isokl_bench.gap(1, db=copied)
    with Store(copied, read_only=True) as store:
        assert store.rows("select * from summaries where metric = 'gap'") == []


def test_two_processes_that_measure_the_same_both_end_well(copied, both, monkeypatch):
    along_base = gap_runner.along_base

    def overtaken(*args):
        with monkeypatch.context() as patch:
            patch.setattr(gap_runner, "along_base", along_base)
            isokl_bench.gap(1, db=copied)
        monkeypatch.setattr(gap_runner, "along_base", along_base)
        return along_base(*args)

    monkeypatch.setattr(gap_runner, "along_base", overtaken)
    notes = []
    found = isokl_bench.gap(1, db=copied, listen=lambda event: notes.append(event.text))
    assert "another process has stored this meanwhile" in notes
    assert found.equals(both[2])


def test_what_the_model_cannot_read_is_unscored(copied, monkeypatch, capsys):
    load = gap_runner.load_model

    def short(plan, tell):
        lm = load(plan, tell)
        lm.config.max_position_embeddings = 50
        return lm

    monkeypatch.setattr(gap_runner, "load_model", short)
    found = isokl_bench.gap(1, db=copied)
    unscored = found[found["reason"].notna()]
    assert set(unscored["source"]) == {"window_5x"}
    assert set(unscored["reason"]) == {"the model reads at most 50 tokens"}
    assert unscored["value"].isna().all()
    assert invoke(["gap", "1", "--db", str(copied)]) == 0
    assert "unscored" in capsys.readouterr().out


def stored_outcomes(db, *outcomes, done=True):
    """A run whose calibrations (of sign + and −) ended so."""
    with Store(db) as store:
        attempt = store.begin({"model": "m", "target": 1.0}, prompts={}, provenance={})
        with attempt.phase("calibrate") as phase:
            phase.calibrations = [
                Calibration(
                    sign=sign, stat="kl_p95", target=1.0, tolerance=0.05, outcome=outcome, coefficient=sign * 2.0,
                    value=0.5, n_prompts=4, rounds=1,
                )
                for sign, outcome in zip((1, -1), outcomes, strict=False)
            ]  # fmt: skip
        if done:
            attempt.done()


def test_without_a_coefficient_on_budget_there_is_no_gap(tmp_path):
    stored_outcomes(tmp_path / "isokl.db", "budget_not_reached", "budget_exceeded")
    with pytest.raises(IsoklError) as error:
        isokl_bench.gap(1, db=tmp_path / "isokl.db")
    assert "sign +1 ended with budget not reached, sign -1 ended with budget exceeded" in str(error.value)
    assert "another --target" in str(error.value)


def test_an_unfinished_run_is_refused(tmp_path):
    stored_outcomes(tmp_path / "isokl.db", "converged", done=False)
    with pytest.raises(IsoklError, match="is running: finish it with `isokl run` first"):
        isokl_bench.gap(1, db=tmp_path / "isokl.db")


def test_files_must_be_given_again(tmp_path, registry):
    db, template, behavior = (str(tmp_path / name) for name in ("isokl.db", "t.jinja", "mine.toml"))
    Path(template).write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    Path(behavior).write_bytes(registry.behavior("sentiment").path.read_bytes())
    options = QUICK | {"target": 0.2, "tolerance": 0.1}
    isokl_bench.run("tiny-qwen", "pca", db=db, behavior=behavior, chat_template=template, **options)
    with pytest.raises(IsoklError, match=r"unknown behavior 'mine'.*--behavior FILE"):
        isokl_bench.gap(1, db=db)
    with pytest.raises(IsoklError, match="give the same file again with --chat-template FILE"):
        isokl_bench.gap(1, db=db, behavior=behavior)
    with pytest.raises(IsoklError, match="give the same file again with --chat-template FILE"):
        isokl_bench.gap(1, db=db, behavior=behavior, chat_template="plain")
    found = isokl_bench.gap(1, db=db, behavior=behavior, chat_template=template)
    assert found["source"].tolist() == [*ROWS[:3], "behavior_sentiment", *ROWS[3:]]


def test_command_line_shows_the_table(both, capsys):
    record, db, found = both
    assert invoke(["gap", record.hash[:8], "--db", str(db)]) == 0
    shown = capsys.readouterr()
    assert f"pca on tiny-qwen · sentiment · block 3 · run {record.hash[:12]}" in shown.out
    lines = [line for line in shown.out.splitlines() if line.startswith(" calibration")]
    first = row(found, "calibration")
    assert len(lines) == 2
    # Of four prompts, nothing tells the upper end.
    assert f"{first['value']:.2f} [{first['low']:.2f}, open]" in lines[0]
    assert np.isnan(first["high"])
    assert lines[0].rstrip().endswith("4 × 6")
    assert "teacher forced" in shown.out
    assert f"at coefficient {record.calibration(-1)['coefficient']:.4g}" in shown.out
    assert "answered from" in shown.err


def test_command_line_as_json_and_quiet(both, capsys):
    record, db, found = both
    assert invoke(["gap", "1", "--db", str(db), "--json"]) == 0
    shown = capsys.readouterr()
    result = json.loads(shown.out)
    assert shown.err == ""
    assert (result["hash"], result["attempt"], result["stat"], result["target"]) == (
        record.hash,
        1,
        "kl_p95",
        1.0,
    )
    assert result["coefficients"] == {
        "+1": record.coefficient, "-1": record.calibration(-1)["coefficient"]
    }  # fmt: skip
    assert [r["value"] for r in result["rows"]] == found["value"].tolist()
    assert invoke(["gap", "1", "--db", str(db), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["1", "--db", "no.db"], 1, "no database at no.db"),
        (["zzz"], 1, "no run 'zzz'"),
        (["1", "--chat-template", "plain"], 1, "the chat template is not the one of run"),
        (["1", "--model", "tiny-llama"], 1, "the model tiny-qwen has changed since run"),
        (["1", "--behavior", "no.toml"], 1, "behavior file no.toml does not exist"),
        (["1", "--device", "cuda:99"], 1, "device 'cuda:99' cannot be used"),
        ([], 2, "Missing argument 'RUN'"),
    ],
)
def test_bad_input_is_one_line(copied, monkeypatch, capsys, args, code, message):
    monkeypatch.chdir(copied.parent)
    assert invoke(["gap", *args, "--quiet"]) == code
    error = capsys.readouterr().err
    assert message in error
    if code == 1:
        assert error.count("\n") == 1


def test_the_function_stays_a_function():
    """`import isokl_bench.generalization.gap` must not put a module where the function is."""
    import isokl_bench.generalization.gap

    assert sys.modules["isokl_bench.generalization.gap"].gap is isokl_bench.gap
    assert "gap" in isokl_bench.__all__
