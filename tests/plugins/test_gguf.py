"""Models from GGUF files: the numbers, the identity, what is kept of them, and what cannot be read."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import click
import gguf
import pytest
import torch
import transformers
from click.testing import CliRunner

from isokl_bench.cli import cli
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.plan import resolve
from isokl_plugins.models import gguf_convert
from isokl_plugins.models.gguf_file import CONVERTER
from isokl_registry import IsoklError, cache
from tests.architectures import TEMPLATE
from tests.scratch import ROOT, environment
from tests.tiny_gguf import tensors, tiny_llama, write_gguf

CPU = torch.device("cpu")
IDS = torch.tensor([[5, 6, 7, 8, 9]])
Q8 = gguf.GGMLQuantizationType.Q8_0


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ISOKL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path):
    return write_gguf(tmp_path / "tiny.gguf")


def load(registry, path, dtype=torch.float32):
    return registry.model(str(path)).load(device=CPU, dtype=dtype)


def refused(registry, path) -> str:
    with pytest.raises(IsoklError) as raised:
        load(registry, path)
    text = str(raised.value)
    assert "\n" not in text
    assert cache.entries() == []
    return text.removeprefix(f"model file {path} ")


def patch(path: Path, key: str, value: int) -> Path:
    """Another number for a key of the header."""
    data = bytearray(path.read_bytes())
    at = data.index(key.encode()) + len(key)
    assert data[at : at + 4] == struct.pack("<I", 4)
    data[at + 4 : at + 8] = struct.pack("<I", value)
    path.write_bytes(data)
    return path


def test_the_model_is_the_one_that_was_written(file, registry):
    loaded = load(registry, file)
    assert torch.equal(loaded.model(IDS).logits, tiny_llama()(IDS).logits)
    assert (loaded.model.dtype, loaded.model.training) == (torch.float32, False)
    lm = LanguageModel(loaded)
    assert lm.chat.template == TEMPLATE
    assert loaded.tokenizer.decode(lm.chat.ids("Hi té")) == "<s>[user] Hi té\n[assistant] "
    assert (lm.eos, lm.pad, lm.notes) == ((258,), 256, [])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_quantised_weights_are_what_gguf_says_they_are(dtype, tmp_path, registry):
    path = write_gguf(tmp_path / "q8.gguf", kind=Q8, file_type=gguf.LlamaFileType.MOSTLY_Q8_0)
    found = load(registry, path, dtype).model.state_dict()["model.layers.1.mlp.down_proj.weight"]
    exact = gguf.dequantize(gguf.quantize(tensors()["blk.1.ffn_down.weight"], Q8), Q8)
    assert torch.equal(found, torch.from_numpy(exact).to(dtype))
    assert not torch.equal(found.float(), tiny_llama().state_dict()["model.layers.1.mlp.down_proj.weight"])


def test_the_second_load_is_from_the_cache(file, registry, monkeypatch, capfd):
    first = load(registry, file)
    monkeypatch.setattr(gguf_convert, "convert", None)  # calling it would raise
    again = load(registry, file)
    assert torch.equal(first.model(IDS).logits, again.model(IDS).logits)
    assert first.tokenizer.get_vocab() == again.tokenizer.get_vocab()
    (kept,) = cache.entries()
    assert kept.name == "Tiny Llama F32"
    assert kept.about == {
        "sha256": registry.model(str(file)).identity()["gguf"],
        "dtype": "float32",
        "converter": CONVERTER,
        "libraries": {"transformers": transformers.__version__, "gguf": version("gguf")},
    }
    assert "model.gguf" not in {path.name for path in kept.folder.iterdir()}
    assert capfd.readouterr() == ("", "")  # no bars, no warnings


def test_every_dtype_is_kept_for_itself(file, registry):
    for dtype in (torch.float32, torch.bfloat16):
        assert load(registry, file, dtype).model.dtype == dtype
    sizes = {
        kept.about["dtype"]: (kept.folder / "model.safetensors").stat().st_size for kept in cache.entries()
    }
    assert sizes["bfloat16"] < 0.7 * sizes["float32"]


def test_that_it_takes_long_is_said_only_where_it_does(file, registry):
    model = registry.model(str(file))
    assert model.notes(dtype=torch.float32) == [
        "converting Tiny Llama F32 to float32, once: this takes a minute or so"
    ]
    load(registry, file)
    assert model.notes(dtype=torch.float32) == []
    assert len(model.notes(dtype=torch.bfloat16)) == 1


def test_a_run_tells_of_the_conversion_and_stores_the_identity(file, tmp_path):
    options = [
        "--protocol",
        "published",
        "--window",
        "2",
        "--fit-prompts",
        "2",
        "--alphas",
        "1",
        "--method",
        "random",
    ]
    command = ["run", "--model", str(file), "--metric", "base_nll[window=2]", *options]
    done = isokl(*command, "--db", str(tmp_path / "a.db"))
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[:2] == [
        "loading Tiny Llama F32",
        "    converting Tiny Llama F32 to float32, once: this takes a minute or so",
    ]
    assert "random on Tiny Llama F32" in done.stdout
    assert "converting" not in isokl(*command, "--db", str(tmp_path / "b.db")).stderr
    assert "answered from" in isokl(*command, "--db", str(tmp_path / "a.db")).stderr


def isokl(*args: str) -> subprocess.CompletedProcess[str]:
    env = environment() | {"ISOKL_LOAD_PLUGINS": ""}
    path = ":".join(str(ROOT / folder) for folder in (".", "plugins", "registry", "db"))
    command = [sys.executable, "-c", "from isokl_bench.cli import main; main()", *args]
    return subprocess.run(command, capture_output=True, text=True, env=env | {"PYTHONPATH": path})


def test_identity_is_the_file_and_not_where_it_lies(file, tmp_path, registry):
    identity = registry.model(str(file)).identity()
    assert identity == {
        "source": "Tiny Llama F32",
        "blocks": 2,
        "gguf": identity["gguf"],
        "converter": CONVERTER,
    }
    moved = tmp_path / "elsewhere" / "other.gguf"
    moved.parent.mkdir()
    file.rename(moved)
    assert registry.model(str(moved)).identity() == identity
    assert registry.model(str(moved.parent)).identity() == identity  # a folder that holds one
    other = write_gguf(moved, template=None)
    assert registry.model(str(other)).identity()["gguf"] != identity["gguf"]
    write_gguf(moved.with_name("b.gguf"))
    with pytest.raises(
        IsoklError, match=r"has 2 GGUF files: give --model one of them \(b\.gguf, other\.gguf\)"
    ):
        registry.model(str(moved.parent))


def test_identity_costs_neither_torch_nor_gguf(file):
    code = (
        "import sys; from isokl_registry import load_registry; load_registry().model(sys.argv[1]).identity();"
        "print(sorted({'torch', 'numpy', 'gguf', 'transformers'} & set(sys.modules)))"
    )
    env = environment() | {"PYTHONPATH": f"{ROOT}/registry:{ROOT}/plugins", "ISOKL_LOAD_PLUGINS": ""}
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, env=env)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_what_lies_beside_the_file_is_no_part_of_it(file, registry):
    alone = load(registry, file).tokenizer("Hi").input_ids
    cache.clear()
    (file.parent / "tokenizer.json").write_text("{}")
    (file.parent / "config.json").write_text('{"model_type": "gpt2"}')
    assert load(registry, file).tokenizer("Hi").input_ids == alone


def test_a_file_that_is_given_in_a_configuration_resolves(file, registry):
    plan = resolve(RunConfig(model=str(file), method="pca"), registry)
    assert (plan.identity["model"], plan.layers) == ("Tiny Llama F32", (1,))


@pytest.mark.parametrize("name", ["none.gguf", "a/none.gguf", "/no/where/none.gguf"])
def test_a_file_that_is_missing_is_no_hub_id(name, registry):
    with pytest.raises(
        IsoklError, match=rf"^model file {name} cannot be read \(No such file or directory\): check"
    ):
        registry.model(name).identity()


def test_an_architecture_that_is_not_read_is_named(tmp_path, registry):
    text = refused(registry, write_gguf(tmp_path / "m.gguf", architecture="rwkv7"))
    start, _, reads = text.partition("; it reads ")
    assert (
        start
        == f"has the architecture 'rwkv7', which transformers {transformers.__version__} does not read from GGUF"
    )
    assert {"llama", "qwen3", "gemma3"} <= set(reads.split(", "))
    assert {"t5", "general", "tokenizer"}.isdisjoint(reads.split(", "))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama.feed_forward_length", 2**31, "its weights have other shapes than its header says"),
        ("llama.embedding_length", 2**30, "its weights have other shapes than its header says"),
        ("llama.attention.head_count", 0, "ZeroDivisionError: integer division or modulo by zero"),
        ("tokenizer.ggml.bos_token_id", 2**31, "IndexError: list index out of range"),
    ],
)
def test_impossible_values_are_one_line(key, value, message, file, registry):
    assert refused(registry, patch(file, key, value)).startswith(f"cannot be converted: {message}")


def test_missing_weights_are_not_made_up(tmp_path, registry):
    path = write_gguf(tmp_path / "m.gguf", without="blk.1.ffn_up.weight")
    assert refused(registry, path) == (
        "lacks 1 weight(s), model.layers.1.mlp.up_proj.weight among them: transformers would fill them with random "
        "numbers; save the whole model"
    )


def test_a_cut_file_is_refused_before_it_is_hashed(file, registry):
    file.write_bytes(file.read_bytes()[:-1])
    assert refused(registry, file).startswith("is cut off: tensor ")


def test_a_kept_model_that_is_damaged_says_how_to_make_it_again(file, registry):
    load(registry, file)
    (kept,) = cache.entries()
    size = (kept.folder / "model.safetensors").stat().st_size
    (kept.folder / "model.safetensors").write_bytes(bytes(size))
    with pytest.raises(
        IsoklError,
        match=r"cannot be loaded: .*; after `isokl models clear 'Tiny Llama F32'` it is converted again",
    ):
        load(registry, file)


def test_a_tokenizer_that_adds_bos_beside_a_template_that_does_not_is_noted(tmp_path, registry):
    bare = TEMPLATE.removeprefix("<s>")
    note = "the tokenizer begins every text with <s>, and the chat template does not: many models are much worse without; "
    for name, template, add_bos, notes in (
        ("a", bare, True, [note + "--chat-template FILE takes one that begins with {{ bos_token }}"]),
        ("b", bare, False, []),
        ("c", TEMPLATE, True, []),
    ):
        path = write_gguf(tmp_path / f"{name}.gguf", template=template, add_bos=add_bos)
        assert LanguageModel(load(registry, path)).notes == notes


def test_models_lists_and_clears_what_is_kept(file, registry):
    for dtype in (torch.float32, torch.bfloat16):
        load(registry, file, dtype)
    listed = run_cli("models")
    assert [line.split("  ")[:2] for line in listed.splitlines()[:2]] == [
        ["Tiny Llama F32", "bfloat16"],
        ["Tiny Llama F32", "float32"],
    ]
    assert listed.splitlines()[2] == f"0.00 GB of 20.00 GB in {cache.cache_folder()}"
    shown = json.loads(run_cli("models", "--json"))
    assert [(m["name"], m["made_of"]["dtype"]) for m in shown["models"]] == [
        ("Tiny Llama F32", "bfloat16"),
        ("Tiny Llama F32", "float32"),
    ]
    with pytest.raises(IsoklError, match=r"unknown converted model 'Tiny': .*Tiny Llama F32"):
        run_cli("models", "clear", "Tiny")
    assert run_cli("models", "clear", "Tiny Llama F32").splitlines() == [
        "dropped Tiny Llama F32 bfloat16 (0.00 GB)",
        "dropped Tiny Llama F32 float32 (0.00 GB)",
    ]
    assert run_cli("models") == f"0.00 GB of 20.00 GB in {cache.cache_folder()}\n"
    assert run_cli("models", "clear", "--all") == ""
    for args in ([], ["Tiny", "--all"]):
        with pytest.raises(click.UsageError, match="give the NAME of a converted model, or --all"):
            run_cli("models", "clear", *args)


def run_cli(*args: str) -> str:
    return CliRunner().invoke(cli, args, catch_exceptions=False, standalone_mode=False).output
