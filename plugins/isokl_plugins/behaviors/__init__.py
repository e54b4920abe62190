"""The built-in behaviors: TOML files in the format that anybody may write, and the door for those others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isokl_plugins.behaviors.toml_file import TomlBehavior
from isokl_registry import BehaviorPlugin, hookimpl

BUILT_IN = ("sentiment", "honesty", "sycophancy", "authority")


@hookimpl
def register_behaviors(register: Callable[[BehaviorPlugin], None]) -> None:
    for name in BUILT_IN:
        register(TomlBehavior(Path(__file__).with_name(f"{name}.toml"), name, town=True))


@hookimpl
def resolve_behavior(name: str) -> BehaviorPlugin | None:
    return TomlBehavior(Path(name), Path(name).stem) if name.endswith(".toml") else None
