"""Behaviors from a file: what is read, and how a mistake is named."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isokl_plugins.behaviors.toml_file import KEYS
from isokl_registry import Answer, IsoklError, Prompt
from tests.toml_text import toml

FIELDS = ("text", "answer", "positive", "negative", "prefill", "question")
GOOD = """\
name = "haste"
question = "{prompt} Answer yes or no."
prompts = [
    "Shall we go?",
    { text = "Shall we wait?", answer = "negative" },
]
[answer]
prefill = "Answer:"
positive = [" yes"]
negative = [" no"]
[[personas]]
positive = "You are quick."
negative = "You are slow."
"""


def load(tmp_path, registry, text):
    path = tmp_path / "haste.toml"
    path.write_text(text)
    return registry.behavior(str(path)).load("plain")


def test_reads_what_was_written(tmp_path, registry):
    found = load(tmp_path, registry, GOOD)
    assert found.personas == (("You are quick.", "You are slow."),)
    assert found.prompts == (
        Prompt("Shall we go? Answer yes or no.", True),
        Prompt("Shall we wait? Answer yes or no.", False),
    )
    assert found.answer == Answer("Answer:", (" yes",), (" no",))


def test_question_forms_take_turns(tmp_path, registry):
    text = GOOD.replace('"{prompt} Answer yes or no."', '["{prompt} Yes or no?", "No or yes? {prompt}"]')
    assert [prompt.text for prompt in load(tmp_path, registry, text).prompts] == [
        "Shall we go? Yes or no?",
        "No or yes? Shall we wait?",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[[personas]]",
            "[[persona]]",
            "line 11, persona: unknown field 'persona': did you mean 'personas'?",
        ),
        ('negative = "You are slow."', "", "line 11, personas[0]: needs two texts"),
        ('"You are slow."', '"You are quick."', "line 11, personas[0]: positive and negative are the same"),
        ('"Shall we go?",', '"Shall we go?", "shall  we GO?",', "line 4, prompts[1]: repeats prompts[0]"),
        ('"Shall we go?",', "7,", "prompts[0]: must be a text"),
        (
            'answer = "negative"',
            'answer = "no"',
            "line 5, prompts[1].answer: is 'no': write positive or negative",
        ),
        ('prefill = "Answer:"', "", "answer.prefill: must be the text"),
        ('negative = [" no"]', 'negative = [" yes"]', "line 10, answer.negative: shares ' yes' with"),
        ('positive = [" yes"]', 'positive = " yes"', "line 9, answer.positive: must be a list"),
        ("{prompt} Answer", "Answer", "line 2, question: must be a text with {prompt} in it"),
        (
            '"{prompt} Answer yes or no."',
            '["{prompt}?", "yes or no?"]',
            "line 2, question: must be a text with",
        ),
        ('"{prompt} Answer yes or no."', "[]", "line 2, question: must be a text with"),
        ("prompts = [", "prompts = [[", "is not valid TOML"),
        (
            'answer = "negative"',
            'anwser = "negative"',
            "line 5, prompts[1]: unknown field 'anwser': did you mean 'answer'?",
        ),
        ('prefill = "Answer:"', 'prefil = "Answer:"', "line 8, answer: unknown field 'prefil'"),
        ('"Shall we go?",', '"",', "line 3, prompts[0]: must be a text"),
        ('name = "haste"', "name = 3", "line 1, name: is 3: write a text"),
        ('name = "haste"', "description = [1]", "line 1, description: is [1]: write a text"),
        ('answer = "negative"', "answer = [[1]]", "line 5, prompts[1].answer: is [[1]]: write positive or"),
        ('name = "haste"', f"name = {'9' * 5000}", "is not valid TOML: Exceeds the limit (4300 digits)"),
        ('name = "haste"', f"name = {'[' * 5000}", "is nested too deeply"),
    ],
)
def test_mistakes_name_file_line_and_field(tmp_path, registry, old, new, message):
    with pytest.raises(IsoklError) as error:
        load(tmp_path, registry, GOOD.replace(old, new, 1))
    assert "haste.toml" in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_as_editors_on_windows_write_it(tmp_path, registry, start, end):
    path = tmp_path / "haste.toml"
    path.write_bytes((start + GOOD.replace("\n", end)).encode())
    assert registry.behavior(str(path)).load("plain").answer == Answer("Answer:", (" yes",), (" no",))


VALUES = st.recursive(
    st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(st.sampled_from([*KEYS, "other"]), VALUES, max_size=4))
def test_any_values_are_read_or_refused_in_one_line(tmp_path, registry, changes):
    data = tomllib.loads(GOOD) | changes
    said = ""
    try:
        load(tmp_path, registry, "".join(f"{key} = {toml(value)}\n" for key, value in data.items()))
    except IsoklError as error:
        said = str(error)
    assert "\n" not in said
    assert "not valid TOML" not in said


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary() | st.integers(0, len(GOOD)).map(lambda end: GOOD[:end].encode()))
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, registry, content):
    path = tmp_path / "haste.toml"
    path.write_bytes(content)
    said = ""
    try:
        registry.behavior(str(path)).load("plain")
    except IsoklError as error:
        said = str(error)
    assert "\n" not in said


def test_missing_file(registry):
    with pytest.raises(IsoklError, match="does not exist"):
        registry.behavior("nowhere.toml").load("plain")
