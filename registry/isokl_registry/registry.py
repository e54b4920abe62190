"""Finding plugins: built-ins by module path, strangers by entry point, each loaded and called on its own."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

import pluggy

from isokl_registry import hookspecs
from isokl_registry.behavior import BehaviorPlugin
from isokl_registry.component import Component, parse_spec
from isokl_registry.errors import IsoklError
from isokl_registry.method import Method
from isokl_registry.metric import Metric
from isokl_registry.model import ModelPlugin
from isokl_registry.stat import Stat
from isokl_registry.suggest import unknown

# A tuple of module paths rather than entry points, so that an uninstalled checkout has its built-ins.
BUILT_IN = (
    "isokl_plugins.methods",
    "isokl_plugins.models",
    "isokl_plugins.stats",
    "isokl_plugins.metrics",
    "isokl_plugins.behaviors",
)
KINDS: dict[str, type] = {
    "method": Method,
    "model": ModelPlugin,
    "stat": Stat,
    "metric": Metric,
    "behavior": BehaviorPlugin,
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


@dataclass(frozen=True)
class Entry:
    """A registered component: a class with parameters (method, stat, metric) or an object (model, behavior)."""

    kind: str
    name: str
    component: Any
    source: Source

    @property
    def summary(self) -> str:
        """One line on what it is."""
        if isinstance(self.component, type):
            return (inspect.getdoc(self.component) or "").split("\n", 1)[0]
        return str(self.component.description)


@dataclass(frozen=True)
class Failure:
    """A plugin that was left out, and why, in one line."""

    source: Source
    reason: str

    def __str__(self) -> str:
        return f"plugin {self.source.plugin!r} ({self.source}) is left out: {self.reason}"


class Registry:
    """All components by kind and name, and the plugins that failed to load."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Entry]] = {kind: {} for kind in KINDS}
        self.failures: list[Failure] = []
        self._manager = pluggy.PluginManager(hookspecs.GROUP)
        self._manager.add_hookspecs(hookspecs)

    def add(self, source: Source, load: Callable[[], object]) -> None:
        """Load one plugin and take what it registers: everything, or (when anything is wrong) nothing."""
        plugin = None
        try:
            plugin = load()
            self._manager.register(plugin, name=source.plugin)
            self._manager.check_pending()
            for entry in list(self._call(plugin, source)):
                self.entries[entry.kind][entry.name] = entry
        except (Exception, SystemExit) as error:
            if plugin is not None and self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            self.failures.append(Failure(source, _one_line(error)))

    def _call(self, plugin: object, source: Source) -> Iterator[Entry]:
        found: list[Entry] = []
        others = [p for p in self._manager.get_plugins() if p is not plugin]
        for kind in KINDS:
            hook = self._manager.subset_hook_caller(f"register_{kind}s", remove_plugins=others)

            def register(component: Any, kind: str = kind) -> None:
                taken = self.entries[kind] | {e.name: e for e in found if e.kind == kind}
                found.append(_entry(kind, component, source, taken))

            hook(register=register)
        yield from found

    def get(self, kind: str, name: str) -> Entry:
        """The entry of that name. Raises IsoklError with the nearest name when there is none."""
        try:
            return self.entries[kind][name]
        except KeyError:
            raise IsoklError(unknown(kind, name, self.entries[kind])) from None

    def create(self, kind: str, spec: str) -> Any:
        """Build a method, stat or metric from `name[key=value,…]`. Raises IsoklError for anything unknown."""
        name, params = parse_spec(spec)
        component: type[Component] = self.get(kind, name).component
        return component.create(params)

    def model(self, name: str) -> ModelPlugin:
        """A registered model, or whatever a plugin resolves the name to (a hub id, a folder)."""
        return self._resolve("model", name)  # type: ignore[no-any-return]

    def behavior(self, name: str) -> BehaviorPlugin:
        """A registered behavior, or whatever a plugin resolves the name to (a TOML file)."""
        return self._resolve("behavior", name)  # type: ignore[no-any-return]

    def _resolve(self, kind: str, name: str) -> Any:
        if name in self.entries[kind]:
            return self.entries[kind][name].component
        found = getattr(self._manager.hook, f"resolve_{kind}")(name=name)
        return found if found is not None else self.get(kind, name).component


def _entry(kind: str, component: Any, source: Source, taken: dict[str, Entry]) -> Entry:
    base = KINDS[kind]
    fits = (
        isinstance(component, type) and issubclass(component, base)
        if issubclass(base, Component)
        else isinstance(component, base)
    )
    what = getattr(component, "__name__", type(component).__name__)
    if not fits:
        raise IsoklError(
            f"{what} is no {kind}: register {'a subclass' if issubclass(base, Component) else 'an instance'} of {base.__name__}"
        )
    if inspect.isabstract(component):
        missing = ", ".join(sorted(component.__abstractmethods__))
        raise IsoklError(f"{kind} {what} does not implement {missing}")
    name = component.name
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise IsoklError(f"{kind} {what} has the name {name!r}: use letters, digits, '_', '.' and '-'")
    if name in taken:
        raise IsoklError(f"{kind} name {name!r} is taken by {taken[name].source}: rename it")
    return Entry(kind, name, component, source)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (
        text
        if isinstance(error, IsoklError)
        else f"{type(error).__name__}: {text}"
        if text
        else type(error).__name__
    )


def _wanted(points: Iterable[EntryPoint]) -> Iterator[EntryPoint]:
    """Outside plugins, restricted by ISOKL_LOAD_PLUGINS (distribution or entry-point names; '' means none)."""
    only = os.environ.get("ISOKL_LOAD_PLUGINS")
    names = None if only is None else {name.strip() for name in only.split(",")}
    for point in sorted(points, key=lambda p: (p.name, p.value)):
        distribution = point.dist.name if point.dist else ""
        if names is None or point.name in names or distribution in names:
            yield point


@cache
def load_registry() -> Registry:
    """The registry of this process: built-ins, then the outside plugins in the order of their names."""
    registry = Registry()
    try:
        own = version("isokl-bench")
    except PackageNotFoundError:
        own = "(checkout)"
    for module in BUILT_IN:
        registry.add(Source(module, "isokl-bench", own), partial(importlib.import_module, module))
    for point in _wanted(entry_points(group=hookspecs.GROUP)):
        dist = point.dist
        source = Source(point.name, dist.name if dist else "unknown", dist.version if dist else "?")
        registry.add(source, point.load)
    return registry
