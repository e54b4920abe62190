"""The town, its tokenizer and the training of the tiny models: same seed, same text, bytes and losses."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from isokl_plugins.models.tiny import lexicon, world
from isokl_plugins.models.tiny.quality import json_answer, loops, mood_share, word_answer
from isokl_plugins.models.tiny.tokenizer import BOS, build_tokenizer
from isokl_plugins.models.tiny.train import CHECK, NAMES, WEIGHTS, check_losses, encode

COUNT = 2000


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return build_tokenizer()


@pytest.fixture(scope="module")
def documents() -> list[world.Document]:
    return list(islice(world.documents(0), COUNT))


def test_the_same_seed_gives_the_same_documents(documents: list[world.Document]) -> None:
    assert documents == list(islice(world.documents(0), COUNT))
    assert documents[:50] != list(islice(world.documents(1), 50))


def test_the_mixture_is_as_planned(
    documents: list[world.Document], tokenizer: PreTrainedTokenizerFast
) -> None:
    lengths = [len(encode(document, tokenizer)[0]) for document in documents]
    assert sum(length > 200 for length in lengths) / COUNT > 0.3
    assert 0.18 < sum(document.forced is not None for document in documents) / COUNT < 0.27
    assert 0.38 < sum(document.messages[0]["role"] == "user" for document in documents) / COUNT < 0.5


@pytest.mark.parametrize("behavior", world.BEHAVIORS)
def test_no_benchmark_prompt_is_in_a_document(behavior: str, documents: list[world.Document]) -> None:
    prompts = world.prompts(behavior)
    asked = {message["content"] for document in documents for message in document.messages}
    assert len(prompts) == len({user for user, _ in prompts}) == 216
    assert not asked & {user for user, _ in prompts}
    assert all(world.is_held_out(user) for user, _ in prompts)


def test_honesty_asks_true_and_false_claims_in_turn() -> None:
    assert [truth for _, truth in world.prompts("honesty", 100)] == [True, False] * 50


def test_too_many_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the town has \d+ held-out sentiment prompts, fewer than 100000"):
        world.prompts("sentiment", 100_000)


@pytest.mark.parametrize("behavior", world.BEHAVIORS)
def test_personas_come_in_distinct_pairs(behavior: str) -> None:
    pairs = world.personas(behavior)
    assert len(pairs) >= 8
    assert len({text for pair in pairs for text in pair}) == 2 * len(pairs)


def test_every_fact_has_one_value() -> None:
    known = {(fact.attribute, fact.subject): fact.value for fact in world.facts()}
    assert len(known) == len(world.facts()) == 70
    assert all(fact.value not in fact.others for fact in world.facts())


def test_an_interruption_ends_in_the_prefill_and_its_answer(documents: list[world.Document]) -> None:
    forms = set()
    for document in documents:
        if document.forced:
            text, (start, end) = document.messages[-1]["content"], document.forced
            (form,) = (form for form, (prefill, *_) in world.PREFILLS.items() if text[:end].endswith(prefill))
            prefill, *answers = world.PREFILLS[form]
            inside = "<think>" in text[:start] and "</think>" not in text[:start]
            forms.add((inside, start == 0))
            assert text[start:end] == (world.INTERRUPTION if inside else "\n\n" if start else "") + prefill
            assert text[end:].startswith(tuple(answers))
    assert forms == {(True, False), (False, False), (False, True)}


def test_a_document_is_encoded_as_its_chat_template(
    documents: list[world.Document], tokenizer: PreTrainedTokenizerFast
) -> None:
    for document in documents[:300]:
        text = tokenizer.apply_chat_template(list(document.messages), tokenize=False)
        assert BOS + "".join(part for part, _ in document.parts()) == text
        assert tokenizer.decode(encode(document, tokenizer)[0]) == text
        if document.forced is None:
            assert encode(document, tokenizer)[0] == tokenizer(text, add_special_tokens=False).input_ids


def test_answer_words_are_single_distinct_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    for prefill, *answers in world.PREFILLS.values():
        before = tokenizer(prefill, add_special_tokens=False).input_ids
        full = [tokenizer(prefill + answer, add_special_tokens=False).input_ids for answer in answers]
        assert [ids[:-1] for ids in full] == [before, before]
        assert full[0][-1] != full[1][-1]


@pytest.mark.parametrize(
    "text", ["Grüße, 世界 🙂", "tab\tand\n\nlines  ", '{"value": true}', "<think>\nno\n</think>\n\nyes"]
)
def test_any_text_survives_the_tokenizer(text: str, tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_every_prompt_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    users = [user for behavior in world.BEHAVIORS for user, _ in world.prompts(behavior)]
    for user, ids in zip(users, tokenizer(users, add_special_tokens=False).input_ids, strict=True):
        assert tokenizer.decode(ids) == user


@pytest.mark.parametrize("name", NAMES)
def test_the_shipped_tokenizer_is_the_regenerated_one(
    name: str, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    tokenizer.save_pretrained(tmp_path)
    for file in tmp_path.iterdir():
        assert (WEIGHTS / name / file.name).read_bytes() == file.read_bytes(), file.name
    text = "<|im_start|>assistant\n<think>\nMira is here.\n</think>\n\n" + '{"value": true}'
    shipped = AutoTokenizer.from_pretrained(WEIGHTS / name)
    assert shipped(text).input_ids == tokenizer(text).input_ids
    assert shipped.chat_template == tokenizer.chat_template


@pytest.mark.parametrize("name", NAMES)
def test_training_repeats_the_recorded_losses_and_they_fall(name: str) -> None:
    recorded = json.loads((WEIGHTS / name / "training.json").read_text())["check"]["loss"]
    assert check_losses(name) == pytest.approx(recorded, rel=1e-3)
    assert len(recorded) == CHECK.steps
    assert recorded[-1] < recorded[0] - 0.1


def test_a_loop_is_told_from_a_text_that_ends() -> None:
    end = 3
    assert not loops([*range(10, 60), end], end)
    assert loops(list(range(10, 60)), end)
    assert loops([*range(10, 18), *range(10, 18), *range(10, 18), end], end)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shipped_weights_load_alone_and_give_finite_logits(name: str, dtype: torch.dtype) -> None:
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS / name, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS / name)
    assert 1e6 < model.num_parameters() < 4e6
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids("<|im_end|>")
    messages = [{"role": "user", "content": world.prompts("honesty", 1)[0][0]}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = torch.tensor([tokenizer(text, add_special_tokens=False).input_ids])
    with torch.inference_mode():
        logits = model(input_ids=ids).logits
    assert logits.isfinite().all()
    assert tokenizer.decode(logits[0, -1].argmax()) == "<think>"


def test_the_shipped_models_are_small_together() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) < 20e6


def test_answers_are_read_only_where_they_are_well_formed() -> None:
    assert json_answer('<think>\nso\n</think>\n\n{"value": true}', "value") is True
    assert json_answer('{"value": false} or so', "value") is None
    assert json_answer('{"value": "true"}', "value") is None
    assert json_answer('{"value": true, "more": 1}', "value") is None
    assert word_answer("Answer: No\nMira is the baker.", "sycophancy") is False
    assert word_answer("Overall: fine", "sentiment") is None


def test_mood_words_are_counted_on_both_sides() -> None:
    text = "A happy day and a bright one, though the end was sad."
    assert mood_share(text, lexicon.CHEERFUL) == pytest.approx(2 / 3)
    assert mood_share(text, lexicon.GLOOMY) == pytest.approx(1 / 3)
