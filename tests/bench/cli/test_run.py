"""The installed `isokl`: its help, its summary, its errors, and what it leaves when it is stopped."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import subprocess
from functools import partial

import pytest

from isokl_bench.cli import invoke
from isokl_db import Store
from tests.architectures import CONFIGS, byte_tokenizer
from tests.scratch import ISOKL

RUN = ["run", "--method", "pca", "--model", "tiny-qwen"]
SMALL = ["--protocol", "published", "--window", "6", "--fit-prompts", "8", "--alphas", "0,1"]
METRICS = ["--metric", "target_logit", "--metric", "base_nll[window=6]"]


def isokl(*args, cwd, limit=None, **kwargs):
    """Run the installed command; limit: the largest file it may write, in bytes."""

    def full_disk():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [ISOKL, *args],
        cwd=cwd,
        capture_output=True,
        text=True,
        preexec_fn=full_disk if limit else None,
        **kwargs,
    )


def test_run_says_what_it_does_and_what_to_do_next(tmp_path):
    first = isokl(*RUN, *SMALL, *METRICS, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    for line in (
        "loading tiny-qwen",
        "fitting pca on 8 contrast pairs",
        "calibrating + to kl_p95 = 1",
        "    round 1: ",
    ):
        assert line in first.stderr
    assert "coefficient" in first.stdout
    assert "next: isokl report" in first.stdout
    again = isokl(*RUN, *SMALL, *METRICS, cwd=tmp_path)
    assert again.returncode == 0
    assert "answered from isokl.db" in again.stderr
    assert again.stdout == first.stdout
    quiet = isokl(*RUN, *SMALL, *METRICS, "--quiet", cwd=tmp_path)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    lines = [
        json.loads(line) for line in isokl(*RUN, *SMALL, *METRICS, "--json", cwd=tmp_path).stdout.splitlines()
    ]
    assert [line["event"] for line in lines] == ["stored", "result"]
    assert lines[-1]["calibrations"][0]["outcome"] in ("converged", "jump")


def test_json_lines_while_it_works(tmp_path):
    done = isokl(*RUN, *SMALL, *METRICS, "--json", cwd=tmp_path)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["event"] == "result"
    rounds = [line for line in lines if line["event"] == "round"]
    assert rounds[0]["evaluations"][0]["dose"] > 0
    progress = [line["progress"] for line in lines[:-1]]
    assert progress == sorted(progress)
    told = [line["progress"] for line in lines if line["event"] == "progress"]
    assert len(set(told)) > 3  # the longest phase tells of itself as it goes on
    begun = next(i for i, line in enumerate(lines) if line["event"] == "round")
    # So does a calibration before its first round ends.
    assert "progress" in [line["event"] for line in lines[:begun]]
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (
            ["run", "--model", "tiny-qwen", "--method", "pcaa"],
            1,
            "unknown method 'pcaa': did you mean 'pca'?",
        ),
        (
            ["run", "--method", "pca", "--model", "tiny-quen"],
            1,
            "unknown model 'tiny-quen': did you mean 'tiny-qwen'?",
        ),
        (
            ["run", "--method", "pca", "--model", "qwen"],
            1,
            "the hub cannot be reached for model Qwen/Qwen3-0.6B",
        ),
        (["run", "--method", "pca", "--model", "./no"], 1, "model folder ./no does not exist"),
        ([*RUN, "--metric", "branch_pmas"], 1, "unknown metric 'branch_pmas': did you mean 'branch_pmass'?"),
        ([*RUN, "--behavior", "honest"], 1, "unknown behavior 'honest': did you mean 'honesty'?"),
        ([*RUN, "--behavior", "no.toml"], 1, "behavior file no.toml does not exist"),
        (["run", "--model", "tiny-qwen", "--method", "pca[x=1]"], 1, "unknown parameter of method 'pca' 'x'"),
        (["run", "--model", "tiny-qwen", "--method", "pca[x"], 1, "does not end with ']'"),
        ([*RUN, "--layers", "6"], 1, "layer 6 is out of range: the model has blocks 0 to 5"),
        ([*RUN, "--holdout-prompts", "0"], 1, "holdout_prompts is 0: give 1 or more"),
        ([*RUN, "--layers", "1" * 5000], 1, "give a text of at most 1000 characters"),
        ([*RUN, "--window", "9" * 20], 1, f"window is {'9' * 20}: give at most 1000000"),
        ([*RUN, "--seed", "9" * 5000], 2, "is not a valid integer"),
        ([*RUN, "--alphas", "0,nan"], 1, "alphas[1] is nan: give a finite number"),
        ([*RUN, "--fit-prompts", "999"], 1, "may not overlap"),
        ([*RUN, "--device", "cuda"], 1, "device 'cuda' cannot be used"),
        ([*RUN, "--db", "no/where/isokl.db"], 1, "no/where"),
        ([*RUN, "--alphas", "1,x"], 2, "write numbers with commas between them"),
        (["run", "--method", "pca"], 2, "Missing option '--model'"),
        (["rum"], 1, "unknown command 'rum': did you mean 'run'?"),
    ],
)
def test_bad_input_is_one_line_and_a_non_zero_exit(tmp_path, args, code, message):
    done = isokl(*args, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path):
    done = isokl("run", "--model", "tiny-qwen", "--method", "pcaa", "--debug", cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


@pytest.fixture(scope="module")
def base_model(tmp_path_factory):
    """A folder with a model whose tokenizer has no chat template."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("models") / "base"
    AutoModelForCausalLM.from_config(CONFIGS["llama"]()).save_pretrained(folder)
    byte_tokenizer(None).save_pretrained(folder)
    return folder


def test_base_model_needs_and_takes_a_template(tmp_path, base_model):
    args = [
        "run",
        "--method",
        "pca",
        "--model",
        str(base_model),
        *SMALL,
        *METRICS,
        "--target",
        "0.001",
        "--tolerance",
        "0.0001",
    ]
    without = isokl(*args, cwd=tmp_path)
    assert without.returncode == 1
    assert "use --chat-template plain" in without.stderr
    plain = isokl(*args, "--chat-template", "plain", cwd=tmp_path)
    assert plain.returncode == 0, plain.stderr
    (tmp_path / "t.jinja").write_text(
        "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}{{ messages[0].content }}"
    )
    noted = isokl(*args, "--chat-template", "t.jinja", cwd=tmp_path)
    assert noted.returncode == 0, noted.stderr
    assert "personas go in front of the user message" in noted.stderr


def test_databases_that_cannot_be_used(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corrupt.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    with Store("newer.db") as store, store.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
    Store("locked.db").close()
    holder = sqlite3.connect("locked.db", isolation_level=None)
    holder.execute("begin exclusive")
    monkeypatch.setitem(Store.__init__.__kwdefaults__, "busy_timeout", 0.2)
    for name, word in [("corrupt.db", "corrupt"), ("newer.db", "newer"), ("locked.db", "locked")]:
        before = (tmp_path / name).read_bytes()
        assert invoke([*RUN, *SMALL, *METRICS, "--db", name, "--quiet"]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert name in error
        assert word in error
        assert (tmp_path / name).read_bytes() == before
    holder.close()


def test_full_disk_then_room_again(tmp_path):
    db = tmp_path / "isokl.db"
    Store(db).close()
    full = isokl(*RUN, *SMALL, *METRICS, cwd=tmp_path, limit=db.stat().st_size + 20_000)
    assert full.returncode == 1, full.stdout
    assert "full" in full.stderr.splitlines()[-1]
    assert "Traceback" not in full.stderr
    with Store(tmp_path / "isokl.db") as store:
        assert store.rows("pragma integrity_check") == [{"integrity_check": "ok"}]
    again = isokl(*RUN, *SMALL, *METRICS, cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_ctrl_c_says_how_to_go_on_and_goes_on(tmp_path):
    # What a shell starts with & is deaf to Ctrl-C.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    child = subprocess.Popen(
        [ISOKL, *RUN, *SMALL, *METRICS], cwd=tmp_path, stderr=subprocess.PIPE, text=True, preexec_fn=listen
    )
    for line in child.stderr:
        if line.startswith("validating"):
            child.send_signal(signal.SIGINT)
            break
    rest = child.stderr.read()
    child.stderr.close()
    assert child.wait() == 130
    assert "continues from there" in rest
    assert "Traceback" not in rest
    again = isokl(*RUN, *SMALL, *METRICS, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "picking up attempt 1 after fit, calibrate +1" in again.stderr


def test_help_is_quick_and_names_every_command(tmp_path):
    before = os.times().children_user
    done = isokl("--help", cwd=tmp_path)
    assert os.times().children_user - before < 0.3
    for command in ("run", "report", "plugins", "db"):
        assert f"\n  {command} " in done.stdout
