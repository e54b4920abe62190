"""Finding plugins: built-ins by module path, strangers by entry point, each loaded and called on its own."""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable
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
from isokl_registry.prompt_method import PromptMethod
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
KINDS: dict[str, tuple[type, ...]] = {
    "method": (Method, PromptMethod),
    "model": (ModelPlugin,),
    "stat": (Stat,),
    "metric": (Metric,),
    "behavior": (BehaviorPlugin,),
}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class Source:
    """Where a plugin comes from."""

    plugin: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}".strip()


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
            component: type[Component] = self.component
            return component.summary()
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
        self._plugins: list[tuple[Source, pluggy.PluginManager]] = []

    def add(self, source: Source, load: Callable[[], object]) -> None:
        """Load one plugin and take what it registers: everything, or (when anything is wrong) nothing."""
        try:
            manager = _hooks(load(), source)
            found = self._registered(manager, source)
        except (Exception, SystemExit) as error:
            self.failures.append(Failure(source, _one_line(error)))
            return
        for entry in found:
            self.entries[entry.kind][entry.name] = entry
        self._plugins.append((source, manager))

    def _registered(self, manager: pluggy.PluginManager, source: Source) -> list[Entry]:
        found: list[Entry] = []
        for kind in KINDS:

            def register(component: Any, kind: str = kind) -> None:
                taken = self.entries[kind] | {e.name: e for e in found if e.kind == kind}
                found.append(_entry(kind, component, source, taken))

            getattr(manager.hook, f"register_{kind}s")(register=register)
        return found

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
        found: ModelPlugin = self._resolve("model", name)
        return found

    def behavior(self, name: str) -> BehaviorPlugin:
        """A registered behavior, or whatever a plugin resolves the name to (a TOML file)."""
        found: BehaviorPlugin = self._resolve("behavior", name)
        return found

    def _resolve(self, kind: str, name: str) -> Any:
        if name in self.entries[kind]:
            return self.entries[kind][name].component
        broken: list[Failure] = []
        for source, manager in reversed(self._plugins):  # strangers before built-ins, as pluggy has it
            try:
                found = getattr(manager.hook, f"resolve_{kind}")(name=name)
                if isinstance(found, KINDS[kind]):
                    return found
                if found is not None:
                    raise TypeError(f"resolve_{kind} gave {found!r:.60}, which is not a {kind}")
            except IsoklError:  # its word on that name, not a fault
                raise
            except (Exception, SystemExit) as error:
                broken.append(Failure(source, _one_line(error)))
                self.failures.append(broken[-1])
        raise IsoklError("; ".join([unknown(kind, name, self.entries[kind]), *map(str, broken)]))


def _hooks(plugin: object, source: Source) -> pluggy.PluginManager:
    """The hooks of one plugin in a manager of their own, so that nothing in it can touch another's."""
    manager = pluggy.PluginManager(hookspecs.GROUP)
    manager.add_hookspecs(hookspecs)
    known = list(vars(manager.hook))
    manager.register(plugin, name=source.plugin)
    for name, hook in vars(manager.hook).items():
        if name not in known and not all(impl.optionalhook for impl in hook.get_hookimpls()):
            raise IsoklError(unknown("hook", name, known))
    if not manager.get_hookcallers(plugin):
        raise IsoklError("it has no hooks: put @hookimpl above its register_methods or the like")
    return manager


def _entry(kind: str, component: Any, source: Source, taken: dict[str, Entry]) -> Entry:
    bases = KINDS[kind]
    is_class = issubclass(bases[0], Component)
    what = getattr(component, "__name__", type(component).__name__)
    fits = (
        isinstance(component, type) and issubclass(component, bases)
        if is_class
        else isinstance(component, bases)
    )
    if not fits:
        article = "a subclass" if is_class else "an instance"
        raise IsoklError(f"{what} is not a {kind}: register {article} of {bases[0].__name__}")
    if inspect.isabstract(component):
        missing = ", ".join(sorted(component.__abstractmethods__))
        raise IsoklError(f"{kind} {what} does not implement {missing}")
    if is_class and "__dataclass_fields__" not in vars(component):
        raise IsoklError(f"{kind} {what} is not a dataclass: put @dataclass(frozen=True) above it")
    if not is_class and inspect.getattr_static(component, "description", None) is None:
        raise IsoklError(f"{kind} {what} has no description: write one line on what it is")
    name = getattr(component, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise IsoklError(f"{kind} {what} has the name {name!r}: use letters, digits, '_', '.' and '-'")
    if name in taken:
        raise IsoklError(f"{kind} name {name!r} is taken by {taken[name].source}: rename it")
    return Entry(kind, name, component, source)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, IsoklError):
        return text
    return f"{type(error).__name__}: {text}".removesuffix(": ")


def _source(point: EntryPoint) -> Source:
    dist = point.dist
    return Source(point.name, (dist and dist.name) or "unknown", (dist and dist.version) or "?")


def _outside() -> tuple[list[EntryPoint], list[Failure]]:
    """Outside plugins, restricted by ISOKL_LOAD_PLUGINS (distribution or entry-point names; '' means none), and the
    names in it that nothing installed has."""
    points = sorted(entry_points(group=hookspecs.GROUP), key=lambda p: (p.name, p.value))
    only = os.environ.get("ISOKL_LOAD_PLUGINS")
    if only is None:
        return points, []
    wanted = {name.strip() for name in only.split(",") if name.strip()}
    names = [{point.name, _source(point).distribution} for point in points]
    known: set[str] = set().union(*names)
    absent = [
        Failure(Source(name, "ISOKL_LOAD_PLUGINS", ""), unknown("plugin", name, known))
        for name in sorted(wanted - known)
    ]
    return [point for point, own in zip(points, names, strict=True) if own & wanted], absent


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
    points, absent = _outside()
    for point in points:
        registry.add(_source(point), point.load)
    registry.failures += absent
    return registry
