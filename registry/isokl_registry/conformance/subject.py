"""Which plugins a name means, built and ready to be judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isokl_registry.component import Component, parse_spec
from isokl_registry.conformance.all_laws import LAWS
from isokl_registry.conformance.law import Law
from isokl_registry.errors import IsoklError
from isokl_registry.registry import Entry, Registry, Source
from isokl_registry.suggest import unknown


@dataclass(frozen=True)
class Subject:
    """One plugin under judgement: a method, stat or metric with its parameters, or a model or behavior."""

    kind: str
    label: str
    plugin: Any
    source: Source

    @property
    def laws(self) -> tuple[Law, ...]:
        return LAWS[self.kind]


def find(spec: str, registry: Registry) -> list[Subject]:
    """The plugins of that name, of whatever kind: `name`, or `name[key=value]` for those with parameters.

    Raises IsoklError with the nearest name when there is none; its own plugin may have failed to load, so the
    failures are named too."""
    name, params = parse_spec(spec)
    found = [of_kind[name] for of_kind in registry.entries.values() if name in of_kind]
    if not found:
        known = {name for of_kind in registry.entries.values() for name in of_kind}
        raise IsoklError("; ".join([unknown("plugin", name, known), *map(str, registry.failures)]))
    if not params:
        return [_subject(entry, params) for entry in found]
    parametrised = [entry for entry in found if isinstance(entry.component, type)]
    if not parametrised:
        raise IsoklError(f"{found[0].kind} {name!r} takes no parameters: write {name} for {spec}")
    return [_subject(entry, params) for entry in parametrised]


def _subject(entry: Entry, params: dict[str, Any]) -> Subject:
    if not isinstance(entry.component, type):
        return Subject(entry.kind, entry.name, entry.component, entry.source)
    component: type[Component] = entry.component
    plugin = component.create(params)
    return Subject(entry.kind, plugin.label(), plugin, entry.source)
