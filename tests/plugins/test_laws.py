"""Every built-in plugin holds the laws of its kind, and fitted methods are stored and detached as the engine does it."""

from __future__ import annotations

import pytest
import torch

from isokl_bench.engine.hooks import attached
from isokl_bench.engine.steering import Steering
from isokl_registry import Method, PromptMethod, Site, load_registry
from isokl_registry.conformance import LAWS, Broken, Skipped, find
from isokl_registry.conformance.case import cases

ENTRIES = load_registry().entries
VARIANTS = ["mean_diff[normalize=false]", "kl_trajectory[window=1]", "base_nll[window=1]"]
SPECS = [name for of_kind in ENTRIES.values() for name in of_kind] + VARIANTS
METHODS = [name for name, entry in ENTRIES["method"].items() if issubclass(entry.component, Method)]
CASES = [
    pytest.param(subject.plugin, law, id=f"{subject.kind}-{subject.label}-{law.name}")
    for spec in SPECS
    for subject in find(spec, load_registry())
    for law in subject.laws
    if not law.asked or spec.startswith("tiny-")
]
MAY_SKIP = {  # a law that does not apply, and to whom
    "linear": lambda plugin: not plugin.linear,
    "needs_base": lambda plugin: plugin.needs_base,
    "system": lambda plugin: isinstance(plugin, Method),
}


@pytest.mark.parametrize(("plugin", "law"), CASES)
def test_every_built_in_holds_the_laws(plugin, law):
    try:
        law.check(plugin)
    except Broken as broken:
        pytest.fail(f"{law.text}\n{broken}", pytrace=False)
    except Skipped as skipped:
        expected = MAY_SKIP.get(law.name, lambda _: False)
        absent = "hub cannot be reached" in str(skipped) or "is not installed: pip" in str(skipped)
        if not (isinstance(plugin, PromptMethod) or absent or expected(plugin)):
            pytest.fail(f"skipped: {skipped}")


def test_every_built_in_is_judged():
    judged = {case.id.split("-")[0] for case in CASES}
    assert judged == set(ENTRIES) == set(LAWS)
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name", METHODS)
def test_a_steering_is_stored_whole(name, registry):
    method = registry.create("method", name)
    state = {case.contrast.site: case.state for case in cases(method)}
    steering = Steering(method, state, {"behavior": "x", "layers": [1]})
    stored = steering.to_bytes()
    back = Steering.from_bytes(stored, registry)
    assert (back.method, back.metadata, back.to_bytes()) == (method, steering.metadata, stored)
    for site, tensors in state.items():
        assert all(torch.equal(back.state[site][key], value) for key, value in tensors.items())


def test_nothing_is_left_on_the_model_after_an_exception(registry, tiny):
    steering = Steering(registry.create("method", "mean_diff"), {Site(1): {"v": torch.ones(128)}})
    ids, mask = tiny.pad_rows([[5, 6, 7]])
    before = tiny.forward(ids, mask)

    def steer_and_stop():
        with attached(tiny, steering) as edits:
            edits.arrange(torch.full((1,), 9.0))
            assert not torch.equal(tiny.forward(ids, mask), before)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        steer_and_stop()
    assert torch.equal(tiny.forward(ids, mask), before)
