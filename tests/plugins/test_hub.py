"""Models from the hub, over HTTP: by alias and id, at a revision, refused, cut off, and from the cache without a network."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.architectures import CONFIGS, byte_tokenizer
from tests.hub_server import Hub, serving
from tests.scratch import ROOT, environment

QWEN = "Qwen/Qwen3-0.6B"
WAYS_OUT = "give --model the folder of a downloaded copy, or a shipped model such as tiny-qwen"
ASK = """
import json, sys
from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.plan import resolve
from isokl_db import config_hash
from isokl_registry import IsoklError, load_registry
name, revision, load = sys.argv[1], sys.argv[2] or None, sys.argv[3] == "load"
try:
    plan = resolve(RunConfig(model=name, method="pca", revision=revision), load_registry())
    found = [plan.identity["model_identity"], config_hash(plan.identity)]
    if load:
        import torch
        model = plan.model.load(device=torch.device("cpu"), dtype=torch.float32).model
        found.append(model(torch.tensor([[5, 6, 7]])).logits[0, 0, 0].item())
    print(json.dumps(found))
except IsoklError as error:
    print(json.dumps(str(error)))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model at two times, and a larger one: huggingface_hub writes 10 MB at once."""
    found = []
    for seed, vocab in enumerate((300, 300, 100_000)):
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp("commit")
        config = CONFIGS["qwen3"]()
        config.vocab_size = vocab
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        (folder / "pytorch_model.bin").write_bytes(b"never to be downloaded")
        found.append(folder)
    return found


@pytest.fixture
def hub(folders):
    new, old, other = folders
    commits = {QWEN: {"main": new, "v1": old}, "org/other": {"main": other}}
    with serving(Hub(commits, gated={"org/gated"})) as running:
        yield running


@pytest.fixture
def ask(hub, tmp_path):
    """Identity and hash of a model, and a logit if it is loaded, from a process of its own; or the error."""

    def run(name: str, revision: str = "", *, load: bool = False, **env: str):
        variables = {key: value for key, value in environment().items() if key != "HF_HUB_OFFLINE"}
        path = ":".join(str(ROOT / folder) for folder in (".", "plugins", "registry", "db"))
        variables |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": path}
        command = [sys.executable, "-c", ASK, name, revision, "load" if load else ""]
        done = subprocess.run(
            command, capture_output=True, text=True, env=variables | {"ISOKL_LOAD_PLUGINS": ""} | env
        )
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    return run


def files(hub: Hub, method: str = "GET") -> list[str]:
    return [line.rsplit("/", 1)[1] for line in hub.seen if line.startswith(method) and "/resolve/" in line]


def test_an_alias_an_id_and_a_revision(hub, ask, folders):
    identity, hash, logit = ask("qwen", load=True)
    written = AutoModelForCausalLM.from_pretrained(folders[0])
    assert logit == pytest.approx(written(torch.tensor([[5, 6, 7]])).logits[0, 0, 0].item(), abs=1e-5)
    main, old = (hub.commit(QWEN, name)[0] for name in ("main", "v1"))
    assert (identity["source"], identity["commit"], identity["blocks"]) == (QWEN, main, 4)
    pickle = {"pytorch_model.bin"}
    assert sorted(files(hub)) == sorted({path.name for path in folders[0].iterdir()} - pickle)
    hub.seen.clear()
    assert ask(QWEN) == ask(QWEN, main) == [identity, hash]
    assert files(hub) == []  # nothing is downloaded twice
    at_v1, hash_v1 = ask(QWEN, "v1")
    assert at_v1 == identity | {"commit": old}
    assert hash_v1 != hash
    assert ask("qwen", old) == [at_v1, hash_v1]


def test_what_the_hub_refuses_is_one_line(ask):
    assert ask("org/gated") == (
        f"model org/gated is gated: accept its terms and `hf auth login`, or {WAYS_OUT}"
    )
    assert ask("org/nothing") == f"the hub has no model 'org/nothing': check the id, or {WAYS_OUT}"
    assert ask(QWEN, "v7") == f"model {QWEN} has no revision 'v7': check --revision, or leave it out"


def test_a_bad_line_is_taken_up_where_it_broke(hub, ask):
    hub.cut["model.safetensors"] = 11_000_000  # of each answer
    assert ask("org/other")[0]["source"] == "org/other"
    ranges = [line.split()[2] for line in hub.seen if "model.safetensors bytes=" in line]
    assert ranges == ["bytes=10485760-", "bytes=20971520-"]


def test_a_download_that_breaks_off_is_one_line_and_can_be_run_again(hub, ask):
    hub.cut["model.safetensors"] = 1000
    assert ask(QWEN) == (
        f"the download of model {QWEN} broke off (RemoteProtocolError): run it again (files that are whole are kept), or "
        f"{WAYS_OUT}"
    )
    hub.cut.clear()
    hub.seen.clear()
    assert ask(QWEN)[0]["source"] == QWEN
    assert "config.json" not in files(hub)


def test_without_a_network_the_cache_serves(hub, ask):
    offline = {"HF_HUB_OFFLINE": "1"}
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # nobody listens
    nothing = f"the hub cannot be reached for model {QWEN} (%s): {WAYS_OUT}"
    assert ask(QWEN, **offline) == nothing % "OfflineModeIsEnabled"
    assert ask(QWEN, **nowhere) == nothing % "ConnectError"
    found = ask(QWEN)
    assert ask(QWEN, **offline) == ask(QWEN, **nowhere) == found
    assert ask(QWEN, hub.commit(QWEN, "main")[0], **offline) == found
    assert "cannot be reached" in ask(QWEN, "v1", **offline)
