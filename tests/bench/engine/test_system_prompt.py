"""Prompt baselines: lockstep under two prompts against teacher forcing, and whole runs without a dose."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

import isokl_bench
from isokl_bench.cli import invoke
from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import rollout
from isokl_bench.engine.sampling import Sampler
from isokl_bench.engine.system_prompt import system_fork, system_rollout
from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.plan import resolve
from isokl_bench.report.tables.cells import Cells
from isokl_bench.results.lines import choose_lines
from isokl_bench.results.responses import Responses, dose_response
from isokl_bench.results.runs import finished_runs
from isokl_bench.results.table1 import read_table
from isokl_db import Store, config_hash
from isokl_registry import REPLY_END, IsoklError, load_registry
from tests.architectures import CONFIGS, build
from tests.small import SMALL
from tests.steerings import ANSWER, POINTS, TEXTS, steer

WINDOW = 24
SYSTEM = "You are a pirate, and it shows."
NAMES = ("kl", "nll", "entropy")


@pytest.fixture(scope="module", params=list(CONFIGS))
def lm(request):
    return build(request.param)


def contexts(lm):
    """Ids of the texts, without and with the system message."""
    return [lm.chat.ids(text) for text in TEXTS], [lm.chat.ids(text, system=SYSTEM) for text in TEXTS]


@torch.inference_mode()
def log_probs(lm, prompt, tokens):
    """What the model says before each token, [token, v]: the whole text in one pass of one row, no cache."""
    ids = torch.tensor([[*prompt, *tokens]])
    return lm.model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)


@torch.inference_mode()
def greedy(lm, prompt):
    """The model's own text, the whole of it read again for every token."""
    tokens: list[int] = []
    while len(tokens) < WINDOW and not (tokens and tokens[-1] in lm.eos):
        logits = lm.model(input_ids=torch.tensor([[*prompt, *tokens]]), use_cache=False).logits
        tokens.append(int(logits[0, -1].float().argmax()))
    return tokens


def test_lockstep_equals_teacher_forcing(lm):
    plain, with_system = contexts(lm)
    found = system_rollout(lm, plain, with_system, [0.0, 1.0], WINDOW)
    assert found.tokens.shape == (2, len(TEXTS), WINDOW)
    for a, own in enumerate((plain, with_system)):
        for p in range(len(TEXTS)):
            tokens = greedy(lm, own[p])
            n = len(tokens)
            assert found.tokens[a, p].tolist() == tokens + [-1] * (WINDOW - n)
            log_s, log_b = log_probs(lm, own[p], tokens), log_probs(lm, plain[p], tokens)
            want = (
                (log_s.exp() * (log_s - log_b)).sum(-1),
                -log_b[torch.arange(n), tokens],
                -(log_s.exp() * log_s).sum(-1),
            )
            for name, values in zip(NAMES, want, strict=True):
                got = getattr(found, name)[a, p]
                np.testing.assert_allclose(got[:n], values, atol=1e-4)
                assert np.isnan(got[n:]).all()
    assert (found.kl[0][found.tokens[0] >= 0] == 0).all()
    assert np.nanmax(found.kl[1]) > 1e-3
    assert found.complete.all()
    assert found.finite.all()


def test_rows_that_end_stop_counting(lm):
    plain, with_system = contexts(lm)
    whole = system_rollout(lm, plain, with_system, [1.0], WINDOW)
    eos, ended = lm.eos, whole.tokens[0, 1, 3]
    lm.eos = (int(ended),)
    try:
        found = system_rollout(lm, plain, with_system, [1.0], WINDOW)
    finally:
        lm.eos = eos
    for p, row in enumerate(whole.tokens[0]):
        hits = np.flatnonzero(row == ended)
        n = hits[0] + 1 if len(hits) else int((row >= 0).sum())
        assert found.tokens[0, p].tolist() == [*row[:n].tolist(), *[-1] * (WINDOW - n)]
        for name in NAMES:
            np.testing.assert_allclose(
                getattr(found, name)[0, p, :n], getattr(whole, name)[0, p, :n], atol=1e-4
            )
            assert np.isnan(getattr(found, name)[0, p, n:]).all()


def test_packing_and_the_choice_of_alphas_never_change_a_result(lm, monkeypatch):
    plain, with_system = contexts(lm)
    for sampler in (None, Sampler(3)):
        whole = system_rollout(lm, plain, with_system, [0.0, 1.0], 10, sampler=sampler)
        alone = system_rollout(lm, plain, with_system, [1.0], 10, sampler=sampler)
        monkeypatch.setattr(LanguageModel, "max_rows", lambda *a, **k: 4)
        split = system_rollout(lm, plain, with_system, [0.0, 1.0], 10, sampler=sampler)
        monkeypatch.undo()
        assert (whole.tokens == split.tokens).all()
        assert (whole.tokens[1:] == alone.tokens).all()
        np.testing.assert_allclose(whole.kl, split.kl, atol=1e-4)
        np.testing.assert_allclose(whole.kl[1:], alone.kl, atol=1e-4)


def test_alpha_0_writes_what_every_other_method_writes_at_0(lm):
    """Sampled too: the noise belongs to the bare prompt."""
    plain, with_system = contexts(lm)
    for sampler in (None, Sampler(5)):
        found = system_rollout(lm, plain, with_system, [0.0], 12, sampler=sampler)
        want = rollout(lm, plain, steer(lm, "mean_diff"), [0.0], 12, sampler=sampler)
        assert (found.tokens == want.tokens).all()
        np.testing.assert_allclose(found.nll, want.nll, atol=1e-4)
    same = system_rollout(lm, plain, plain, [0.0, 1.0], 12, sampler=Sampler(5))
    assert (same.tokens[0] == same.tokens[1]).all()
    assert np.nanmax(same.kl[1]) < 1e-6


def test_forks_are_answered_in_the_context_that_wrote_the_text(lm):
    plain, with_system = contexts(lm)
    tokens = system_rollout(lm, plain, with_system, [0.0, 1.0], 20).tokens
    tokens[1, 1, 5:] = -1
    tokens[1, 1, 4] = lm.eos[0]  # a row that ended: 4 tokens, then EOS
    answer = AnswerTokens.of(ANSWER, lm)
    found = system_fork(lm, plain, with_system, tokens, [0.0, 1.0], POINTS, answer)
    for (a, p, f), value in np.ndenumerate(found.log_mass_first):
        row = [token for token in tokens[a, p].tolist() if token >= 0]
        end = len(row) - (row[-1] in lm.eos)
        point = end if POINTS[f] == REPLY_END else POINTS[f]
        if point > end:
            assert np.isnan(value)
            continue
        join = "\n\n" if point else ""
        ids = [*row[:point], *lm.chat.encode(join + answer.prefill), 0]
        log_p = log_probs(lm, (plain, with_system)[a][p], ids)[-1]
        assert value == pytest.approx(float(log_p[answer.first].logsumexp(-1)), abs=1e-4)
        second = float(log_p[answer.second].logsumexp(-1))
        assert found.log_mass_second[a, p, f] == pytest.approx(second, abs=1e-4)
    assert np.isnan(found.log_mass_first[1, 1]).tolist() == [False, False, True, True, False]


def test_logits_that_are_not_finite_are_an_error():
    lm = build("llama")
    with torch.no_grad():
        lm.model.lm_head.weight[0] = torch.nan
    with pytest.raises(IsoklError, match="not finite: use --dtype"):
        system_rollout(lm, *contexts(lm), [1.0], 4)


METRICS = ("target_logit", "base_nll", "branch_pmass", "kl_trajectory")  # as the figures want them
OPTIONS = SMALL | {"metrics": METRICS, "alphas": (0.5, 3.0), "layers": "1"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A prompt run of both signs, with pca beside it."""
    db = tmp_path_factory.mktemp("prompt") / "isokl.db"
    record = isokl_bench.run(
        "tiny-qwen", "prompt", db=db, behavior="authority", bidirectional=True, **OPTIONS
    )
    isokl_bench.run("tiny-qwen", "pca", db=db, behavior="authority", **SMALL | {"metrics": METRICS})
    return record, db


def test_a_run_has_an_outcome_of_its_own_and_no_steering(whole, tiny):
    record, _ = whole
    assert [(c["sign"], c["outcome"], c["coefficient"]) for c in record.calibrations] == [
        (1, "no_dose", 1.0),
        (-1, "no_dose", 1.0),
    ]
    phases = [phase["name"].split(" ")[0] for phase in record.data["phases"]]
    assert "fit" not in phases
    assert phases.count("validate") == 2
    assert record.steering_bytes is None
    with pytest.raises(IsoklError, match=r"steers by a prompt \(prompt\), so there is no steering"):
        record.steering()
    personas = load_registry().behavior("authority").load("town").personas[0]
    texts = [row["text"] for row in record.data["prompts"] if row["split"] == "calibration"]
    for sign, persona in zip((1, -1), personas, strict=True):
        kl = []
        for text in texts:
            plain, with_system = tiny.chat.ids(text), tiny.chat.ids(text, system=persona)
            tokens = greedy(tiny, with_system)[:6]
            log_s, log_b = log_probs(tiny, with_system, tokens), log_probs(tiny, plain, tokens)
            kl.append((log_s.exp() * (log_s - log_b)).sum(-1))
        want = float(torch.quantile(torch.cat(kl).double(), 0.95))
        assert record.calibration(sign)["value"] == pytest.approx(want, abs=1e-4)


def test_everything_is_measured_at_alpha_0_and_1_whatever_was_asked_for(whole):
    record, db = whole
    for sign in (1, -1):
        kl = record.array(METRICS[3], "kl", sign)
        assert kl.shape[0] == 2
        assert (kl[0][~np.isnan(kl[0])] == 0).all()
    ratio = [record.array(METRICS[0], "log_ratio", sign)[1].mean() for sign in (1, -1)]
    assert ratio[0] > 0 > ratio[1]  # each persona pulls to its own side
    assert set(record.traces["alpha"]) == {0, 1}
    again = isokl_bench.run("tiny-qwen", "prompt", db=db, behavior="authority", bidirectional=True, **OPTIONS)
    assert again.cached


def test_layers_and_alphas_make_no_other_run(registry):
    def plan(**changes):
        return resolve(RunConfig(model="tiny-qwen", **({"method": "prompt"} | changes)), registry)

    first = plan()
    assert (first.layers, first.identity["layers"], first.alphas) == ((), [], (0.0, 1.0))
    assert config_hash(plan(layers="all", alphas=(2.0,)).identity) == config_hash(first.identity)
    for other in ("prompt[persona=1]", "engineered_prompt"):
        assert config_hash(plan(method=other).identity) != config_hash(first.identity)


@pytest.mark.parametrize("prompt_set", ["town", "plain"])
def test_the_messages(registry, prompt_set):
    prompts = registry.behavior("sentiment").load(prompt_set)
    first, second = prompts.personas[:2]
    message = registry.create("method", "prompt").system
    assert (message(prompts, 1), message(prompts, -1)) == first
    assert registry.create("method", "prompt[persona=1]").system(prompts, -1) == second[1]
    for side, sign in enumerate((1, -1)):
        long = registry.create("method", "engineered_prompt").system(prompts, sign)
        assert all(pair[side] in long for pair in prompts.personas)
        assert not any(pair[1 - side] in long for pair in prompts.personas)


def test_a_persona_that_is_not_there(registry, tmp_path):
    with pytest.raises(IsoklError, match="persona must be 0 or more"):
        registry.create("method", "prompt[persona=-1]")
    with pytest.raises(
        IsoklError, match=r"prompt\[persona=99\] has no prompt for sentiment: persona 99 is not"
    ):
        isokl_bench.run("tiny-qwen", "prompt[persona=99]", db=tmp_path / "x.db", **SMALL)


def test_table_1_shows_what_the_prompt_cost(whole):
    record, db = whole
    with Store(db, read_only=True) as store:
        table = read_table(store, finished_runs(store, {}))
    assert "layers" not in table.varying
    cells = {
        (row.first.method, row.first.sign): cells
        for row, cells in zip(table.rows, Cells(table).cells, strict=True)
    }
    mine = cells["prompt", 1]
    assert (mine["coefficient"].text, mine["outcome"].text, mine["seeds"].text) == ("—", "no dose", "1")
    assert mine["calibration"].text == f"{record.calibration()['value']:.2f}"
    assert mine["holdout"].text != "—"
    assert mine["target_logit_alpha2"].text == "—"
    assert cells["pca", 1]["coefficient"].text != "—"
    assert any(note.startswith("no dose: ") for note in Cells(table).notes)


def test_commands(whole, tmp_path, capsys):
    record, db = whole

    def isokl(*arguments):
        code = invoke([*map(str, arguments), "--db", str(db)])
        found = capsys.readouterr()
        return code, " ".join(found.out.split()), found.err

    asked = ["--behavior", "authority", "--bidirectional", "--protocol", "published", "--window", 6]
    asked += ["--fit-prompts", 8, *(part for name in METRICS for part in ("--metric", name))]
    code, out, err = isokl("run", "--method", "prompt", "--model", "tiny-qwen", *asked)
    assert (code, "stored already" in err) == (0, True)
    value = record.calibration()["value"]
    assert f"no dose: steered by a prompt, with kl_p95 {value:.3f} on 4 prompts" in out
    assert "coefficient" not in out
    code, out, err = isokl("gap", record.hash[:12])
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "steers by a prompt and was not calibrated, so there is no gap" in err
    judged = json.loads(isokl("verify", "--protocol", "published", "--json")[1])
    assert judged["left_out"]["steered by a prompt"] == 2
    code, out, err = isokl("report", "--output", tmp_path)
    assert (code, "no dose" in out) == (0, True)
    assert {"table1.csv", "figure1.svg", "figure2.svg"} <= {file.name for file in tmp_path.iterdir()}
    with (tmp_path / "ranking.csv").open() as file:
        found = {row["method"]: row for row in csv.DictReader(file)}
    assert found["prompt"]["remark"].endswith("no dose")
    assert found["prompt"]["rank_first"] == "1"


def test_figure_2_shows_a_prompt_as_one_point(whole):
    _, db = whole
    with Store(db, read_only=True) as store:
        lines = choose_lines(read_table(store, finished_runs(store, {})))
        found = dose_response(Responses(store), lines)
    assert found is not None
    for curve in found.blocks[0].effects.values():
        alphas: dict[tuple[str, str], list[float]] = {}
        for point in curve:
            alphas.setdefault((point["method"], point["variant"]), []).append(point["alpha"])
        assert alphas == {("pca", "+"): [0, 1], ("prompt", "+"): [1], ("prompt", "−"): [1]}
