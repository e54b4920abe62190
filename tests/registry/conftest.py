"""Fake distributions: a module and the dist-info that names it as a plugin, as pip would leave them."""

from __future__ import annotations

import sys
from textwrap import dedent

import pytest

from isokl_registry import Registry, load_registry

HEAD = '''
from dataclasses import dataclass
from typing import ClassVar
from isokl_registry import *
from isokl_registry.hookspecs import hookimpl

@dataclass(frozen=True)
class Shift(Method):
    """Adds the dose."""
    name: ClassVar[str] = "shift"
    def fit(self, contrast): return {}
    def edit(self, output, dose, input, state): return output + dose

@dataclass
class Mock(ModelPlugin):
    name: str = "mock"
    description: str = "a mock"
    def identity(self): return {"source": self.name, "blocks": 1}
    def load(self, *, device, dtype): raise NotImplementedError

@dataclass
class Mood(BehaviorPlugin):
    name: str = "mood"
    description: str = "a mood"
    def load(self, prompt_set): raise NotImplementedError
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    """install(point, body): a distribution `isokl-POINT` whose module is HEAD and `body`."""
    monkeypatch.delenv("ISOKL_LOAD_PLUGINS", raising=False)
    load_registry.cache_clear()
    modules = []

    def install(point: str, body: str, *, version: str = "1.0", attribute: str = "") -> None:
        folder, module = tmp_path / point, f"isokl_{point}_under_test"
        info = folder / f"isokl_{point}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: isokl-{point}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[isokl]\n{point} = {module}{attribute}\n")
        (folder / f"{module}.py").write_text(HEAD + dedent(body))
        monkeypatch.syspath_prepend(folder)
        modules.append(module)

    yield install
    load_registry.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def names(install):
    """names(kind): what is registered now, of that kind."""

    def names(kind: str) -> list[str]:
        registry: Registry = load_registry()
        return list(registry.entries[kind])

    return names
