"""One plugin that is broken, in every way there is: it is reported in one line, and everything else works."""

from __future__ import annotations

import pytest

from isokl_registry import Failure, IsoklError, Source, load_registry

GOOD = """
    @hookimpl
    def register_methods(register):
        register(Shift)
"""
HOOKS = (
    "register_behaviors, register_methods, register_metrics, register_models, register_stats, "
    "resolve_behavior, resolve_model"
)
ARGUMENTS = (  # pluggy's own words
    "PluginValidationError: Plugin 'broken' for hook 'register_models' hookimpl definition: register_models(add) "
    "Argument(s) {'add'} are declared in the hookimpl but can not be found in the hookspec"
)
BROKEN = {
    "fails to import": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "exits at import": ("raise SystemExit('go away')", "SystemExit: go away"),
    "says much": ("raise ValueError('one\\n  two\\n\\nthree')", "ValueError: one two three"),
    "says nothing": ("raise ValueError", "ValueError"),
    "has no hook": ("def register_methods(register): register(Shift)",
        "it has no hooks: put @hookimpl above its register_methods or the like"),
    "has an unknown hook": (GOOD + """
    @hookimpl
    def register_model(register): pass
    """, f"unknown hook 'register_model': did you mean 'register_models'? available: {HOOKS}"),
    "takes other arguments": (GOOD + """
    @hookimpl
    def register_models(add): add(Mock())
    """, ARGUMENTS),
    "raises in a hook": (GOOD + """
    @hookimpl
    def register_models(register):
        register(Mock())
        raise RuntimeError("half way")
    """, "RuntimeError: half way"),
    "exits in a hook": (GOOD + "        raise SystemExit(3)", "SystemExit: 3"),
    "gives no class": (GOOD + "        register(Shift())",
        "Shift is not a method: register a subclass of Method"),
    "gives another kind": (GOOD + "        register(Mock)",
        "Mock is not a method: register a subclass of Method"),
    "gives no instance": (GOOD + """
    @hookimpl
    def register_models(register): register(Mock)
    """, "Mock is not a model: register an instance of ModelPlugin"),
    "gives anything": (GOOD + "        register(7)", "int is not a method: register a subclass of Method"),
    "is abstract": (GOOD + """
        @dataclass(frozen=True)
        class Half(Method):
            name: ClassVar[str] = "half"
            def fit(self, contrast): return {}
        register(Half)
    """, "method Half does not implement edit"),
    "is the base": (GOOD + "        register(Method)", "method Method does not implement edit, fit"),
    "is not a dataclass": (GOOD + """
        class Plain(Shift):
            name = "plain"
        register(Plain)
    """, "method Plain is not a dataclass: put @dataclass(frozen=True) above it"),
    "has no name": (GOOD + """
        @dataclass(frozen=True)
        class Nameless(Shift):
            name: ClassVar[str] = ""
        register(Nameless)
    """, "method Nameless has the name '': use letters, digits, '_', '.' and '-'"),
    "has a bad name": (GOOD + """
    @hookimpl
    def register_behaviors(register): register(Mood("good mood"))
    """, "behavior Mood has the name 'good mood': use letters, digits, '_', '.' and '-'"),
    "has no description": (GOOD + """
    @hookimpl
    def register_models(register):
        class Bare(ModelPlugin):
            name = "bare"
            identity = load = None
        register(Bare())
    """, "model Bare has no description: write one line on what it is"),
    "collides with a built-in": (GOOD + """
        @dataclass(frozen=True)
        class Pca(Shift):
            name: ClassVar[str] = "pca"
        register(Pca)
    """, "method name 'pca' is taken by {built_in}: rename it"),
    "collides within itself": (GOOD + "        register(Shift)",
        "method name 'shift' is taken by isokl-broken 2.1: rename it"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_left_out_alone(case, install):
    body, reason = BROKEN[case]
    before = {kind: list(found) for kind, found in load_registry().entries.items()}
    install("broken", body, version="2.1")
    install("early", "@hookimpl\ndef register_behaviors(register): register(Mood())")
    install("zealous", "@hookimpl\ndef register_models(register): register(Mock())")
    load_registry.cache_clear()
    registry = load_registry()
    source = Source("broken", "isokl-broken", "2.1")
    expected = Failure(source, reason.replace("{built_in}", str(registry.entries["method"]["pca"].source)))
    assert registry.failures == [expected]
    assert str(expected).startswith("plugin 'broken' (isokl-broken 2.1) is left out: ")
    assert "\n" not in str(expected)
    before["behavior"].append("mood")
    before["model"].append("mock")
    assert {kind: list(found) for kind, found in registry.entries.items()} == before


def test_entry_point_without_its_target(install):
    install("broken", GOOD, attribute=":plugin")
    reason = "AttributeError: module 'isokl_broken_under_test' has no attribute 'plugin'"
    assert [failure.reason for failure in load_registry().failures] == [reason]


def test_a_plugin_may_be_an_object(install, names):
    """Even one that cannot be hashed, which pluggy's own subset callers trip over."""
    body = """
    @dataclass
    class Plugin:
        @hookimpl
        def register_methods(self, register): register(Shift)
    plugin = Plugin()
    """
    install("object", body, attribute=":plugin")
    install("other", "@hookimpl\ndef register_models(register): register(Mock())")
    assert load_registry().failures == []
    assert "shift" in names("method")
    assert "mock" in names("model")


def test_of_two_strangers_the_first_by_name_keeps_the_name(install):
    install("second", GOOD)
    install("first", GOOD)
    registry = load_registry()
    assert registry.get("method", "shift").source == Source("first", "isokl-first", "1.0")
    assert [str(failure) for failure in registry.failures] == [
        "plugin 'second' (isokl-second 1.0) is left out: method name 'shift' is taken by isokl-first 1.0: rename it"
    ]


def test_optional_hooks_of_another_version_are_no_fault(install, names):
    install("modern", GOOD + "\n    @hookimpl(optionalhook=True)\n    def register_sounds(register): pass")
    assert load_registry().failures == []
    assert "shift" in names("method")


def test_a_resolver_that_fails_is_passed_over(install):
    install("broken", "@hookimpl\ndef resolve_model(name): raise RuntimeError('boom')")
    install("wrong", "@hookimpl\ndef resolve_model(name): return 'a string'")
    install("working", "@hookimpl\ndef resolve_model(name): return Mock(name) if name == 'wanted' else None")
    registry = load_registry()
    assert registry.failures == []
    assert registry.model("wanted").name == "wanted"
    # 'broken' comes after 'working', and was not asked.
    assert [failure.reason for failure in registry.failures] == [
        "TypeError: resolve_model gave 'a string', which is not a model"
    ]
    with pytest.raises(IsoklError) as error:
        registry.model("unwanted")
    assert str(error.value).startswith("unknown model 'unwanted': ")
    assert "plugin 'broken' (isokl-broken 1.0) is left out: RuntimeError: boom" in str(error.value)


def test_what_a_resolver_says_of_a_name_is_said(install):
    install("picky", "@hookimpl\ndef resolve_behavior(name): raise IsoklError(f'{name} is too long')")
    with pytest.raises(IsoklError, match=r"^abc is too long$"):
        load_registry().behavior("abc")
    assert load_registry().failures == []
