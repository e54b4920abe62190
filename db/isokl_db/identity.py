"""The identity of a run: a hash of everything that may change its numbers, and of nothing else."""

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any

HASH_VERSION = 1
"""Raised when equal configs no longer mean equal numbers; everything is then run again."""


def config_hash(config: Mapping[str, Any]) -> str:
    """The identity of a run: equal configs have equal hashes.

    The order of their keys does not matter, nor does a trip through JSON and back.

    Args:
        config: the resolved configuration, as plain values.

    Returns:
        SHA-256 (hex) of the canonical JSON of `config` and `HASH_VERSION`.

    Raises:
        ValueError: for NaN, infinity, a key that is no text, or a value that JSON does not have.
    """
    if "hash_version" in config:
        raise ValueError("config has a key 'hash_version', which is the store's own; remove it")
    return hashlib.sha256(canonical_json({"hash_version": HASH_VERSION, **config}).encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """The one JSON text of `value`: keys sorted, no spaces, ASCII, floats in their shortest exact form.

    Raises:
        ValueError: as for `config_hash`.
    """
    _check(value, "config")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _check(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{where} has the key {key!r}; JSON keys are text, write '{key}'")
            _check(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            _check(item, f"{where}[{index}]")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which JSON does not have; leave it out or use None")
    elif not isinstance(value, str | int | None):
        raise ValueError(
            f"{where} is a {type(value).__name__}, which JSON does not have; use plain Python values"
        )
