"""Whatever is asked for gives a plan, or one line that says what is wrong."""

from __future__ import annotations

import dataclasses
import datetime
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import isokl_bench
from isokl_bench.pipeline.config import FIELDS, RunConfig
from isokl_bench.pipeline.plan import Resolver
from isokl_bench.sweep.grid import cells, read_file
from isokl_registry import IsoklError
from tests.toml_text import toml

QUICK = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Stubborn:
    """Cannot be written, compared or asked whether it is true."""

    def refuse(self, *args):
        raise RuntimeError("no")

    __repr__ = __str__ = __eq__ = __bool__ = __len__ = __iter__ = refuse
    __hash__ = None


TEXTS = st.text() | st.sampled_from(
    [
        *("", " ", ".", "..", "~", "~nobody", "/", "//", "a/b", "a/b/c", "/dev/null", "x.toml", "x.gguf", "\0", "\ud800", "\n"),
        *("1" * 5000, "1" * 999, "x" * 999, "-" * 999, "all", "1-99999999999999999999", "nan%", "1e400%", "0%-100%", "٣", "²"),
        *("pca[", "pca[k=" + "[" * 900, f"pca[k={'9' * 900}]", "pca[k=[1,2]]", "pca]", "mean_diff[normalize=1]"),
    ]
)  # fmt: skip
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63, -(10**5000), 10**5000, 10**400, True, 1j])
THINGS = (
    st.none()
    | st.booleans()
    | NUMBERS
    | TEXTS
    | st.binary()
    | st.sampled_from(
        [Stubborn(), Stubborn, datetime.date.min, np.int64(3), np.float32("nan"), np.zeros(2), range(3)]
    )
)
ANYTHING = THINGS | st.lists(THINGS) | st.lists(THINGS).map(tuple) | st.dictionaries(TEXTS, THINGS)


@pytest.fixture(scope="module")
def resolver(registry):
    yield Resolver(registry)
    assert registry.failures == []  # no name makes a plugin fail


def one_line_or_a_plan(ask):
    said = ""
    try:
        ask()
    except IsoklError as error:
        said = str(error)
    assert "\n" not in said
    assert len(said.encode()) < 5000


@pytest.mark.parametrize("name", FIELDS)
@QUICK
@given(value=ANYTHING)
def test_any_value_of_a_field(name, value, resolver):
    asked = {"model": "tiny-qwen", "method": "pca", name: value}
    one_line_or_a_plan(lambda: resolver.resolve(RunConfig(**asked)))


@QUICK
@given(fields=st.dictionaries(st.sampled_from(sorted(FIELDS)) | TEXTS, ANYTHING))
def test_any_fields_at_once(fields, resolver):
    one_line_or_a_plan(lambda: resolver.resolve(RunConfig(**fields)))


IN_TOML = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(["tiny-qwen", "pca"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=5,
)
KEYS = st.sampled_from([*sorted(FIELDS), "metric", "modle"])


@QUICK
@given(data=st.dictionaries(KEYS, IN_TOML, max_size=5), start=st.sampled_from(["", "\ufeff"]))
def test_any_grid_file(data, start, tmp_path, resolver):
    file = tmp_path / "grid.toml"
    text = "".join(f"{key} = {toml(value)}\r\n" for key, value in data.items())
    file.write_bytes((start + text).encode())

    def ask():
        for config in cells({"model": "tiny-qwen", "method": "pca"}, read_file(file))[:20]:
            resolver.resolve(config)

    one_line_or_a_plan(ask)


@QUICK
@given(content=st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_as_a_grid_file(content, tmp_path):
    file = tmp_path / "grid.toml"
    file.write_bytes(content)
    one_line_or_a_plan(lambda: read_file(file))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"seed": 0.5}, "seed is 0.5: give a whole number"),
        ({"seed": True}, "seed is True: give a whole number"),
        ({"seed": 10**5000}, "seed is <int>: give less than 9223372036854775808"),
        ({"seed": -1}, "seed is -1: give 0 or more"),
        ({"window": True}, "window is True: give a whole number"),
        ({"window": 99999999999999999999}, "window is 99999999999999999999: give at most 1000000"),
        ({"bidirectional": "-1"}, "bidirectional is '-1': give true or false"),
        ({"tolerance": float("nan")}, "tolerance is nan: give a finite number"),
        ({"model": None}, "model is None: give a text"),
        ({"device": ""}, "device is '': give a text that is not empty"),
        ({"behavior": "a\0"}, "behavior is 'a\\x00': give a text of whole characters, without NUL"),
        ({"metrics": "base_nll"}, "metrics is 'base_nll': give a list, even of one"),
        ({"metrics": ["base_nll", 3]}, "metrics[1] is 3: give a text"),
        ({"alphas": ()}, "alphas is (): give at least one"),
        ({"protocol": ["stable"]}, "protocol is ['stable']: give 'stable' or 'published'"),
        ({"\ud800": 3}, "unknown field '\\ud800': available: "),
        ({"windows": 3}, "unknown field 'windows': did you mean 'window'?"),
    ],
)  # fmt: skip
def test_the_line_names_field_value_and_what_it_takes(asked, words):
    with pytest.raises(IsoklError) as error:
        RunConfig(**{"model": "tiny-qwen", "method": "pca"} | asked)
    assert str(error.value).startswith(words)


def test_fields_by_place_are_named_too():
    assert RunConfig("any", "pca") == RunConfig(model="any", method="pca")
    for asked, words in (
        (("any", 3), "method is 3: give a text"),
        ((*["all"] * 5, 1.0, 0.1, "stable", True), "window is True: give a whole number"),
        (("any",), "method is missing"),
        ((*["any"] * len(FIELDS), 7), "target is 'any': give a number"),
    ):
        with pytest.raises(IsoklError, match=words):
            RunConfig(*asked)
    with pytest.raises(IsoklError, match="7 is one value too many: give fields by name"):
        RunConfig(*dataclasses.astuple(RunConfig("any", "pca")), 7)


def test_lists_and_whole_numbers_are_taken_where_they_mean_the_same():
    config = RunConfig(
        model="any", method="any", alphas=[0, 1], metrics=["base_nll"], target=2, tolerance=np.float64(0.5)
    )
    assert config == RunConfig(
        model="any", method="any", alphas=(0.0, 1.0), metrics=("base_nll",), target=2.0, tolerance=0.5
    )
    assert hash(config)


@pytest.mark.parametrize("db", [3, None, b"isokl.db"])
def test_a_database_that_is_neither_path_nor_url(db):
    for ask in (lambda: isokl_bench.run("tiny-qwen", "pca", db=db), lambda: isokl_bench.gap(1, db=db)):
        with pytest.raises(
            IsoklError, match=rf"^db is {re.escape(repr(db))}: give a path or an SQLAlchemy URL$"
        ):
            ask()
