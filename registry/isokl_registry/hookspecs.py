"""The hooks by which plugins, built in or not, add components. One hook per kind."""

from __future__ import annotations

from collections.abc import Callable

import pluggy

from isokl_registry.behavior import BehaviorPlugin
from isokl_registry.method import Method
from isokl_registry.metric import Metric
from isokl_registry.model import ModelPlugin
from isokl_registry.prompt_method import PromptMethod
from isokl_registry.stat import Stat

GROUP = "isokl"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def register_methods(register: Callable[[type[Method | PromptMethod]], None]) -> None:
    """Call `register(MyMethod)` for each steering method."""


@hookspec
def register_models(register: Callable[[ModelPlugin], None]) -> None:
    """Call `register(model)` for each model."""


@hookspec
def register_stats(register: Callable[[type[Stat]], None]) -> None:
    """Call `register(MyStat)` for each calibration stat."""


@hookspec
def register_metrics(register: Callable[[type[Metric]], None]) -> None:
    """Call `register(MyMetric)` for each metric."""


@hookspec
def register_behaviors(register: Callable[[BehaviorPlugin], None]) -> None:
    """Call `register(behavior)` for each behavior."""


@hookspec(firstresult=True)
def resolve_model(name: str) -> ModelPlugin | None:
    """The model for a name that nobody registered (a hub id, a folder), or None to pass."""


@hookspec(firstresult=True)
def resolve_behavior(name: str) -> BehaviorPlugin | None:
    """The behavior for a name that nobody registered (a file), or None to pass."""
