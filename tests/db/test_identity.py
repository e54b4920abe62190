"""The config hash: the same for the same config, however it is written down."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isokl_db import HASH_VERSION, canonical_json, config_hash

# Only ever version-bumped: a change here without a new HASH_VERSION gives every stored run another identity.
GOLDEN = {
    1: "d3243c10f5dcb1865e6701ef3eb99833dc1bd48c1064fb1d47611c872333db1b",
}
GOLDEN_CONFIG = {
    "method": "pca",
    "params": {"normalize": True, "center": None},
    "model": "tiny-qwen",
    "behavior": "überraschung",
    "layers": [3, -1],
    "target": 1.0,
    "tolerance": 0.05,
    "seed": 0,
    "prompts": ["Tell me.", "Tell\nme."],
}

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
configs = st.dictionaries(st.text().filter(lambda key: key != "hash_version"), plain, max_size=5)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


def test_golden() -> None:
    assert config_hash(GOLDEN_CONFIG) == GOLDEN[HASH_VERSION]


@given(configs)
def test_key_order_and_a_round_trip_through_json_change_nothing(config: dict[str, Any]) -> None:
    assert config_hash(reversed_keys(config)) == config_hash(config)
    assert config_hash(json.loads(json.dumps(config))) == config_hash(config)
    assert config_hash(json.loads(canonical_json(config))) == config_hash(config)


@given(configs, st.text().filter(lambda key: key != "hash_version"), plain)
def test_one_more_or_other_key_changes_the_hash(config: dict[str, Any], key: str, value: Any) -> None:
    other = {**config, key: value}
    assert (config_hash(other) == config_hash(config)) == (canonical_json(other) == canonical_json(config))


def test_tuples_are_lists() -> None:
    assert config_hash({"layers": (1, 2)}) == config_hash({"layers": [1, 2]})


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"target": float("nan")}, "config.target is nan"),
        ({"a": {"b": [1, float("-inf")]}}, r"config.a.b\[1\] is -inf"),
        ({"layers": {3: "x"}}, "config.layers has the key 3"),
        ({"model": object()}, "config.model is a object"),
        ({"hash_version": 7}, "'hash_version'"),
    ],
)
def test_what_json_does_not_have_is_refused_by_name(config: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        config_hash(config)
