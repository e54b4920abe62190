"""Models and chat templates that are not as one would wish."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from isokl_bench.engine import memory
from isokl_bench.engine.activations import record
from isokl_bench.engine.chat import Chat
from isokl_bench.engine.diagnose import explain_nonfinite
from isokl_bench.engine.lm import LanguageModel, find_blocks
from isokl_bench.engine.rollout import rollout
from isokl_registry import IsoklError, Site
from tests.architectures import CONFIGS, TEMPLATE, build, byte_tokenizer
from tests.steerings import steer

NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEMPLATE
DROPS_SYSTEM = "{% for m in messages if m.role != 'system' %}{{ m.content }}{% endfor %}"


def test_template_that_rejects_system_takes_the_persona_in_the_user_message():
    for template in (NO_SYSTEM, DROPS_SYSTEM):
        chat = Chat(byte_tokenizer(template))
        assert not chat.system_role
        text = chat.tokenizer.decode(chat.ids("Hello", system="Be kind."))
        assert "Be kind.\n\nHello" in text
    lm = build("llama", tokenizer=byte_tokenizer(NO_SYSTEM))
    assert lm.notes == ["the chat template takes no system message: personas go in front of the user message"]


def test_missing_template_names_both_ways_out(tmp_path):
    with pytest.raises(IsoklError, match=r"--chat-template plain .* --chat-template FILE"):
        Chat(byte_tokenizer(None))
    chat = Chat(byte_tokenizer(None), "plain")
    assert chat.tokenizer.decode(chat.ids("Hi", system="Be kind.", prefix=" So")) == (
        "<s>Be kind.\n\nUser: Hi\nAssistant: So"
    )
    file = tmp_path / "t.jinja"
    file.write_text("{{ messages[-1].content }}!")
    assert (
        Chat(byte_tokenizer(None), str(file)).tokenizer.decode(
            Chat(byte_tokenizer(None), str(file)).ids("Hi")
        )
        == "Hi!"
    )


def test_broken_template_is_one_line():
    with pytest.raises(IsoklError, match="the chat template cannot be rendered"):
        Chat(byte_tokenizer("{{ nothing.at.all }}"))


def test_missing_pad_token_changes_no_number():
    bare = byte_tokenizer()
    bare.pad_token = None
    texts = ["Hi", "A much longer message than the other"]
    found = []
    for tokenizer in (bare, byte_tokenizer()):
        lm = build("qwen3", tokenizer=tokenizer)
        prompts = [lm.chat.ids(text) for text in texts]
        found.append(rollout(lm, prompts, steer(lm, "mean_diff"), [0.5], 6))
    assert "no pad token" in build("qwen3", tokenizer=bare).notes[0]
    assert (found[0].tokens == found[1].tokens).all()
    assert (found[0].kl == found[1].kl).all()


def test_blocks_not_found_lists_what_was_looked_for():
    odd = nn.Module()
    odd.stack = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)])
    with pytest.raises(IsoklError, match=r"ModuleList of 4 at model\.layers.*its ModuleLists: stack \(3\)"):
        find_blocks(odd, 4)
    assert find_blocks(odd, 3) is odd.stack  # the only list of the right length will do


@pytest.mark.parametrize("name", list(CONFIGS))
def test_blocks_of_every_architecture(name):
    lm = build(name)
    assert len(lm.blocks) == 4
    with pytest.raises(IsoklError, match=r"has no module 'mlp\.nope': it has"):
        lm.module(Site(1, "mlp.nope"))


def test_sites_are_found_under_each_architectures_names():
    """Qwen 3.5's blocks 1 and 2 have linear and full attention."""
    linears = ("self_attn.o_proj|attn.c_proj|linear_attn.out_proj", "mlp.down_proj|mlp.c_proj")
    assert build("qwen3.5").sites([1, 2], linears) == [
        Site(1, "linear_attn.out_proj"),
        Site(1, "mlp.down_proj"),
        Site(2, "self_attn.o_proj"),
        Site(2, "mlp.down_proj"),
    ]
    gpt2 = build("gpt2")
    assert gpt2.sites([0], linears) == [Site(0, "attn.c_proj"), Site(0, "mlp.c_proj")]
    assert gpt2.sites([0, 3], ()) == [Site(0), Site(3)]
    assert gpt2.sites([0], ("mlp.c_proj|attn.c_proj",)) == [Site(0, "mlp.c_proj")]  # the first that there is
    with pytest.raises(IsoklError) as raised:
        gpt2.sites([0], ("mlp.c_proj", "mlp.up|mlp.down"))
    assert str(raised.value) == (
        "block 0 has no module 'mlp.up' or 'mlp.down': it has ln_1, attn.c_attn, attn.c_proj, ln_2, mlp.c_fc, mlp.c_proj"
    )


@pytest.mark.parametrize("name", list(CONFIGS))
def test_activations_of_linears_are_what_they_give_alone(name):
    """Two Linears in each of two blocks, in a padded batch, against each text alone."""
    lm = build(name)
    sites = lm.sites(
        [1, 2], ("self_attn.o_proj|attn.c_proj|linear_attn.out_proj", "mlp.down_proj|mlp.c_proj")
    )
    rows = [lm.chat.ids("Hello there"), lm.chat.ids("Hi")]
    found = record(lm, rows, sites)
    for site in sites:
        seen = []
        handle = lm.module(site).register_forward_hook(lambda *args, seen=seen: seen.append(args[-1]))
        for row in rows:
            lm.forward(*lm.pad_rows([row]))
        handle.remove()
        assert found[site].shape == (2, lm.config.hidden_size)
        torch.testing.assert_close(found[site], torch.cat([output[:, -1] for output in seen]).detach())


@pytest.mark.parametrize("name", list(CONFIGS))
def test_activations_are_the_blocks_outputs(name):
    """Against transformers' own hidden_states: entry i + 1 is block i's output (but for the last, normed)."""
    lm = build(name)
    rows = [lm.chat.ids("Hello there"), lm.chat.ids("Hi")]
    found = record(lm, rows, [Site(0), Site(2)])
    for i, row in enumerate(rows):
        hidden = lm.model(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states
        for layer in (0, 2):
            torch.testing.assert_close(
                found[Site(layer)][i], hidden[layer + 1][0, -1].float(), atol=1e-4, rtol=1e-4
            )


def test_nonfinite_names_layer_and_dose(registry):
    lm = build("llama")
    prompts = [lm.chat.ids("Hi")]
    steering = steer(lm, "mean_diff", layers=(2,))
    steering.state[Site(2)]["v"].fill_(float("inf"))
    message = explain_nonfinite(lm, prompts, steering, 0.5)
    assert message.startswith("mean_diff gives NaN or infinity after block 2 at dose 0.5")
    assert not rollout(lm, prompts, steering, [0.5], 2).finite[0]


def test_nonfinite_base_model_is_an_error():
    lm = build("llama")
    with torch.no_grad():
        lm.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(IsoklError, match="logits of the unsteered model are not finite"):
        rollout(lm, [lm.chat.ids("Hi")], steer(lm, "mean_diff"), [0.5], 2)
    with torch.no_grad():
        lm.model.model.layers[1].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(IsoklError, match="activations at block 1 are not finite"):
        record(lm, [lm.chat.ids("Hi")], [Site(1)])


def test_folders(tmp_path, registry):
    cpu = {"device": torch.device("cpu"), "dtype": torch.float32}
    (tmp_path / "model").mkdir()
    folder = tmp_path / "model"
    with pytest.raises(IsoklError, match=r"has no config\.json"):
        registry.model(str(folder)).identity()
    model = AutoModelForCausalLM.from_config(CONFIGS["llama"]())
    model.save_pretrained(folder)
    with pytest.raises(IsoklError, match="has no tokenizer files"):
        registry.model(str(folder)).identity()
    byte_tokenizer().save_pretrained(folder)
    identity = registry.model(str(folder)).identity()
    assert identity["source"] == "model"
    assert identity["blocks"] == 4
    lm = LanguageModel(registry.model(str(folder)).load(**cpu))
    assert torch.equal(lm.model.lm_head.weight, model.lm_head.weight)
    folder.rename(tmp_path / "moved")
    moved = registry.model(str(tmp_path / "moved")).identity()
    assert {**moved, "source": "model"} == identity  # where it lies is no part of what it is
    (tmp_path / "moved" / "model.safetensors").rename(tmp_path / "moved" / "pytorch_model.bin")
    with pytest.raises(IsoklError, match=r"no \.safetensors weights"):
        registry.model(str(tmp_path / "moved")).identity()


@pytest.mark.parametrize("name", ["qwen", "some-org/some-model"])
def test_no_hub_is_one_line_with_two_ways_out(name, registry, monkeypatch, tmp_path):
    with pytest.raises(IsoklError) as error:
        registry.model(name).identity()
    text = str(error.value)
    assert text.startswith("the hub cannot be reached for model")
    assert "folder" in text
    assert "tiny-qwen" in text
    assert "\n" not in text


def test_activations_are_read_no_further_than_they_are_wanted(tiny):
    """In batches, one row longer than a batch may be, and nothing above the last site is computed."""
    rows = [tiny.chat.ids("Hi"), tiny.chat.ids("a long row " * 900), tiny.chat.ids("Hello there")]
    beyond = []
    handle = tiny.blocks[4].register_forward_hook(lambda *args: beyond.append(1))
    found = record(tiny, rows, [Site(3), Site(1)])
    handle.remove()
    assert not beyond
    alone = record(tiny, rows[2:], [Site(1)])
    torch.testing.assert_close(found[Site(1)][2:], alone[Site(1)], atol=1e-4, rtol=1e-4)
    assert len(found[Site(3)]) == len(rows)


def test_memory_is_shared_as_the_processor_is(tiny, monkeypatch):
    monkeypatch.setattr("isokl_bench.engine.lm.machine_memory", lambda: 16e9)
    monkeypatch.setattr("isokl_bench.engine.lm.processors", lambda: 8 * torch.get_num_threads())
    assert tiny.free_memory() == 1e9
    monkeypatch.setattr("isokl_bench.engine.lm.processors", lambda: 1)
    assert tiny.free_memory() == 8e9


def test_a_container_has_the_memory_that_it_may_have(tmp_path, monkeypatch):
    limit, none = tmp_path / "max", tmp_path / "none"
    whole = memory.machine_memory()
    limit.write_text("1000000\n")
    none.write_text("max\n")
    monkeypatch.setattr(memory, "LIMITS", (none, tmp_path / "missing"))
    assert memory.machine_memory() >= whole > 1e6
    monkeypatch.setattr(memory, "LIMITS", (none, limit))
    assert memory.machine_memory() == 1e6
