"""What is loaded: the built-ins by module path, and as many outside plugins as ISOKL_LOAD_PLUGINS says."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from isokl_registry import IsoklError, Source, load_registry
from isokl_registry.registry import BUILT_IN

METHOD = "@hookimpl\ndef register_methods(register): register(Shift)"
MODEL = "@hookimpl\ndef register_models(register): register(Mock())"


@pytest.fixture
def load(install, monkeypatch):
    """load(value): the outside components there are when ISOKL_LOAD_PLUGINS has that value (None: is not set)."""
    install("one", METHOD)
    install("two", MODEL)

    def load(value):
        if value is not None:
            monkeypatch.setenv("ISOKL_LOAD_PLUGINS", value)
        entries = load_registry().entries
        return {name for name, kind in [("shift", "method"), ("mock", "model")] if name in entries[kind]}

    return load


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, {"shift", "mock"}),
        ("", set()),
        (" ", set()),
        ("one", {"shift"}),
        ("isokl-two", {"mock"}),
        ("one, isokl-two", {"shift", "mock"}),
    ],
)
def test_isokl_load_plugins(load, value, expected):
    assert load(value) == expected
    assert load_registry().failures == []


def test_isokl_load_plugins_with_a_typo(load):
    assert load("onne,two") == {"mock"}
    reason = "unknown plugin 'onne': did you mean 'one'? available: isokl-one, isokl-two, one, two"
    assert [str(failure) for failure in load_registry().failures] == [
        f"plugin 'onne' (ISOKL_LOAD_PLUGINS) is left out: {reason}"
    ]


def test_outside_plugins_are_not_even_imported_when_unwanted(install, monkeypatch):
    install("one", "raise SystemExit('imported')")
    monkeypatch.setenv("ISOKL_LOAD_PLUGINS", "")
    assert load_registry().failures == []


def test_the_built_ins(install):
    registry = load_registry()
    assert registry.failures == []
    assert all(found for found in registry.entries.values())
    sources = {entry.source for found in registry.entries.values() for entry in found.values()}
    assert {source.plugin for source in sources} == set(BUILT_IN)
    assert {source.distribution for source in sources} == {"isokl-bench"}


def test_the_built_ins_of_an_uninstalled_checkout(install, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr("isokl_registry.registry.version", missing)
    registry = load_registry()
    assert registry.get("method", "pca").source == Source(
        "isokl_plugins.methods", "isokl-bench", "(checkout)"
    )
    assert registry.failures == []


def test_a_built_in_that_fails_is_left_out_alone(install, monkeypatch):
    monkeypatch.setattr("isokl_registry.registry.BUILT_IN", ("isokl_plugins.no_such", *BUILT_IN))
    registry = load_registry()
    assert [f.reason for f in registry.failures] == [
        "ModuleNotFoundError: No module named 'isokl_plugins.no_such'"
    ]
    assert "pca" in registry.entries["method"]


def test_the_registry_is_made_once(install):
    assert load_registry() is load_registry()


def test_get_and_create_suggest():
    registry = load_registry()
    with pytest.raises(IsoklError, match=r"^unknown method 'pcs': did you mean 'pca'\?"):
        registry.get("method", "pcs")
    with pytest.raises(IsoklError, match=r"^unknown stat 'kl_p59': did you mean 'kl_p95'\?"):
        registry.create("stat", "kl_p59")
    with pytest.raises(
        IsoklError, match=r"^unknown parameter of method 'mean_diff' 'normalise': did you mean 'normalize'\?"
    ):
        registry.create("method", "mean_diff[normalise=false]")
    assert registry.create("method", "mean_diff[normalize=false]").params() == {"normalize": False}
