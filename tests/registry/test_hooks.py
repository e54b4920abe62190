"""Every hook is documented, and every hook does what it says."""

from __future__ import annotations

import inspect
import re

import pytest

from isokl_registry import IsoklError, Source, hookspecs, load_registry
from isokl_registry.registry import KINDS

HOOKS = {
    name: function
    for name, function in vars(hookspecs).items()
    if inspect.isfunction(function) and function.__module__ == hookspecs.__name__
}


def test_there_is_a_hook_for_every_kind():
    assert set(HOOKS) == {f"register_{kind}s" for kind in KINDS} | {"resolve_model", "resolve_behavior"}


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_is_documented_with_its_arguments(name):
    doc = inspect.getdoc(HOOKS[name])
    assert doc
    assert re.fullmatch(r"[A-Z][^\n]*\.", doc)
    for argument in inspect.signature(HOOKS[name]).parameters:
        assert re.search(rf"\b{argument}\b", doc), f"{name}: {argument} is not explained"


@pytest.mark.parametrize("name", HOOKS)
def test_every_hook_has_a_test(name):
    assert f"test_{name}" in globals()


def test_register_methods(install):
    install("example", "@hookimpl\ndef register_methods(register): register(Shift)", version="3.2")
    entry = load_registry().get("method", "shift")
    assert (entry.summary, entry.source) == ("Adds the dose.", Source("example", "isokl-example", "3.2"))
    assert load_registry().create("method", "shift") == entry.component()


def test_register_models(install):
    install("example", "@hookimpl\ndef register_models(register): register(Mock())")
    model = load_registry().model("mock")
    assert model.identity() == {"source": "mock", "blocks": 1}
    assert load_registry().get("model", "mock").summary == "a mock"


def test_register_stats(install):
    body = """
    @dataclass(frozen=True)
    class Total(Stat):
        '''Sum of the KL.'''
        name: ClassVar[str] = "kl_sum"
        target: ClassVar[float] = 9.0
        scale: float = 1.0
        def __call__(self, steered, base): return self.scale * sum(steered.kl)

    @hookimpl
    def register_stats(register): register(Total)
    """
    install("example", body)
    stat = load_registry().create("stat", "kl_sum[scale=2]")
    assert stat.target == 9.0
    assert stat.label() == "kl_sum[scale=2.0]"


def test_register_metrics(install):
    body = """
    @dataclass(frozen=True)
    class Nothing(Metric):
        '''Measures nothing.'''
        name: ClassVar[str] = "nothing"
        def measure(self, session): return []

    @hookimpl
    def register_metrics(register): register(Nothing)
    """
    install("example", body)
    assert load_registry().create("metric", "nothing").tokens == 0


def test_register_behaviors(install):
    install("example", "@hookimpl\ndef register_behaviors(register): register(Mood())")
    assert load_registry().behavior("mood").description == "a mood"


def test_resolve_model(install):
    """Asked only for names that nobody registered, and before the built-ins."""
    install(
        "example",
        "@hookimpl\ndef resolve_model(name): return Mock(name) if name.startswith('org/') else None",
    )
    registry = load_registry()
    assert type(registry.model("org/name")).__name__ == "Mock"
    assert type(registry.model("another/name")).__name__ == "HubModel"
    assert type(registry.model("tiny-qwen")).__name__ == "TinyModel"
    with pytest.raises(IsoklError, match=r"^unknown model 'tiny-qwem': did you mean 'tiny-qwen'\?"):
        registry.model("tiny-qwem")


def test_resolve_behavior(install):
    install(
        "example",
        "@hookimpl\ndef resolve_behavior(name): return Mood(name) if name.endswith('.mood') else None",
    )
    registry = load_registry()
    assert registry.behavior("good.mood").name == "good.mood"
    with pytest.raises(IsoklError, match=r"^unknown behavior 'honest': did you mean 'honesty'\?"):
        registry.behavior("honest")
