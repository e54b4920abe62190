"""The laws can fail: a plugin that breaks one is reported by that law and by no other."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from isokl_registry import (
    Answer,
    BehaviorPlugin,
    Column,
    Curve,
    Entry,
    IsoklError,
    Loaded,
    Measurement,
    Method,
    Metric,
    ModelPlugin,
    Prompt,
    PromptMethod,
    PromptSet,
    Registry,
    Source,
    Stat,
    load_registry,
)
from isokl_registry.conformance import LAWS, Broken, find, laws

SOURCE = Source("test", "isokl-test", "1")


@dataclass(frozen=True)
class Good(Method):
    """Adds the mean difference."""

    name: ClassVar[str] = "good"

    def fit(self, contrast):
        mean = contrast.difference.mean(0)
        if not mean.norm() > 0:
            raise ValueError("the mean difference is zero")
        return {"v": mean / mean.norm()}

    def edit(self, output, dose, input, state):
        return output + dose * state["v"]


@dataclass(frozen=True)
class Nameless(Good):
    __doc__ = " "


@dataclass(frozen=True)
class Floor(Good):
    """Adds a little at dose 0 too."""

    def edit(self, output, dose, input, state):
        return output + (dose + 0.25 * dose.sign() + 0.05) * state["v"]


@dataclass(frozen=True)
class NotForZeros(Good):
    """Divides by the length of the token, which is 0 for some."""

    def edit(self, output, dose, input, state):
        return output + dose * state["v"] * (
            output / output.norm(dim=-1, keepdim=True) @ state["v"]
        ).unsqueeze(-1)


@dataclass(frozen=True)
class OneDose(Good):
    """Takes the mean dose for every row."""

    def edit(self, output, dose, input, state):
        return output + dose.mean() * state["v"]


@dataclass(frozen=True)
class Mixes(Good):
    """Looks at the other tokens of the row."""

    def edit(self, output, dose, input, state):
        return output + dose * (1 + output.mean(dim=(1, 2), keepdim=True).abs()) * state["v"]


@dataclass(frozen=True)
class Idle(Good):
    """Does nothing to positive doses."""

    def edit(self, output, dose, input, state):
        return output + dose.clamp_max(0) * state["v"]


@dataclass(frozen=True)
class ComesBack(Good):
    """Returns to where it was at dose 0.1."""

    def edit(self, output, dose, input, state):
        return output + dose * (0.1 - dose.abs()) * state["v"]


@dataclass(frozen=True)
class Overflows(Good):
    """Grows as the exponential of the dose."""

    def edit(self, output, dose, input, state):
        return output + dose.sinh() * state["v"]


@dataclass(frozen=True)
class Double(Good):
    """Computes in float64 and leaves it so."""

    def edit(self, output, dose, input, state):
        return output.double() + dose * state["v"]


@dataclass(frozen=True)
class OneSided(Good):
    """Takes the size of the dose."""

    def edit(self, output, dose, input, state):
        return output + dose.abs() * state["v"]


@dataclass(frozen=True)
class Backwards(Good):
    """Has its range the wrong way round."""

    dose_range: ClassVar[tuple[float, float]] = (5.0, 1.0)


OUTSIDE = {}


@dataclass(frozen=True)
class Remembers(Good):
    """Keeps a number of the last fit where no steering is stored."""

    def fit(self, contrast):
        OUTSIDE["size"] = 1 + contrast.positive.abs().mean().item()
        return super().fit(contrast)

    def edit(self, output, dose, input, state):
        return output + dose * OUTSIDE["size"] * state["v"]


@dataclass(frozen=True)
class Wide(Good):
    """Edits Linears that are wider than the stream."""

    linears: ClassVar[tuple[str, ...]] = ("mlp.up_proj", "self_attn.k_proj")
    linear: ClassVar[bool] = True


@dataclass(frozen=True)
class Mute(PromptMethod):
    """Says what it is told to say."""

    name: ClassVar[str] = "mute"
    positive: str = "Be glad."
    negative: str = "Be gloomy."

    def system(self, prompts, sign):
        return self.positive if sign > 0 else self.negative


@dataclass(frozen=True)
class Silent(Mute):
    """Says nothing."""

    def system(self, prompts, sign):
        return None


KEPT = torch.ones(32)


@dataclass(frozen=True)
class KeepsATensor(Good):
    """Uses a tensor of the module."""

    def edit(self, output, dose, input, state):
        return output + dose * state["v"] * KEPT


@dataclass(frozen=True)
class MakesATensor(Good):
    """Makes a tensor on the default device."""

    def edit(self, output, dose, input, state):
        return output + dose * state["v"] * torch.ones(32)


@dataclass(frozen=True)
class SaysLinear(Good):
    """Promises to add a vector and does it twice."""

    linear: ClassVar[bool] = True

    def edit(self, output, dose, input, state):
        return output + 2 * dose * state["v"]


@dataclass(frozen=True)
class Chance(Good):
    """Draws from a generator that nobody seeded."""

    def fit(self, contrast):
        return {"v": torch.from_numpy(np.random.default_rng().normal(size=32)).float()}


@dataclass(frozen=True)
class DoubleState(Good):
    """Keeps float64."""

    def fit(self, contrast):
        return {"v": super().fit(contrast)["v"].double()}

    def edit(self, output, dose, input, state):
        return output + dose * state["v"].float()


@dataclass(frozen=True)
class InPlace(Good):
    """Adds in place."""

    def edit(self, output, dose, input, state):
        output += dose * state["v"]
        return output


@dataclass(frozen=True)
class Hooked(Good):
    """Leaves a hook behind."""

    def fit(self, contrast):
        contrast.module.register_forward_hook(lambda module, args, output: None)
        return super().fit(contrast)


@dataclass(frozen=True)
class Frozen(Good):
    """Freezes the parameters."""

    def fit(self, contrast):
        contrast.module.requires_grad_(False)
        return super().fit(contrast)


@dataclass(frozen=True)
class Trained(Good):
    """Changes the weights."""

    def fit(self, contrast):
        with torch.no_grad():
            next(contrast.module.parameters()).add_(1)
        return super().fit(contrast)


@dataclass(frozen=True)
class Reseeds(Good):
    """Seeds the generator that all share."""

    def fit(self, contrast):
        torch.manual_seed(contrast.seed)
        return super().fit(contrast)


@dataclass(frozen=True)
class LeavesAfterAnError(Good):
    """Hooks while it fits, and forgets the hook when the fit is refused."""

    def fit(self, contrast):
        handle = contrast.module.register_forward_hook(lambda module, args, output: None)
        state = super().fit(contrast)
        handle.remove()
        return state


@dataclass(frozen=True)
class Unguarded(Good):
    """Divides by zero."""

    def fit(self, contrast):
        mean = contrast.difference.mean(0)
        return {"v": mean / mean.norm()}


@dataclass(frozen=True)
class Raises(Good):
    """Refuses with another exception."""

    def fit(self, contrast):
        if len(contrast.positive) < 4:
            raise IndexError("no such cluster")
        return super().fit(contrast)


@dataclass(frozen=True)
class GoodStat(Stat):
    """Mean KL."""

    name: ClassVar[str] = "good"
    target: ClassVar[float] = 1.0
    needs_base: ClassVar[bool] = False

    def __call__(self, steered, base):
        return np.nanmean(steered.kl, axis=(-2, -1))


@dataclass(frozen=True)
class NoTarget(GoodStat):
    """Has no number to reach."""

    target: ClassVar[float] = float("inf")


@dataclass(frozen=True)
class Pools(GoodStat):
    """Makes one number of all sets."""

    def __call__(self, steered, base):
        return np.nanmean(steered.kl)


@dataclass(frozen=True)
class CountsTheEnd(GoodStat):
    """Takes an ended row for 0."""

    def __call__(self, steered, base):
        return np.nan_to_num(steered.kl).mean(axis=(-2, -1))


@dataclass(frozen=True)
class Falls(GoodStat):
    """Subtracts a part of the largest."""

    def __call__(self, steered, base):
        kl = steered.kl
        return np.nansum(kl, axis=(-2, -1)) - 1.5 * np.nanmax(kl, axis=(-2, -1))


@dataclass(frozen=True)
class Constant(GoodStat):
    """Is always a half."""

    def __call__(self, steered, base):
        return np.full(steered.kl.shape[:-2], 0.0)


@dataclass(frozen=True)
class Counts(GoodStat):
    """Counts the tokens, so that it is larger as long as no end is seen."""

    def __call__(self, steered, base):
        return np.isfinite(steered.kl).sum(axis=(-2, -1)) * steered.kl[..., 0].mean(-1)


@dataclass(frozen=True)
class HasAFloor(GoodStat):
    """Is 0.1 without a shift."""

    def __call__(self, steered, base):
        return super().__call__(steered, base) + 0.1


@dataclass(frozen=True)
class NoShift(GoodStat):
    """Calls a level of KL what is half NLL."""

    is_shift: ClassVar[bool] = True

    def __call__(self, steered, base):
        return super().__call__(steered, base) + 0.1 * np.nanmean(steered.nll, axis=(-2, -1))


@dataclass(frozen=True)
class ReadsTheBase(GoodStat):
    """Reads the base rollout and does not say so."""

    def __call__(self, steered, base):
        return super().__call__(steered, base) - np.nanmean(base.kl, axis=(-2, -1))


@dataclass(frozen=True)
class WritesKl(GoodStat):
    """Replaces NaN in the array that it was given."""

    def __call__(self, steered, base):
        found = super().__call__(steered, base)
        steered.nll[np.isnan(steered.nll)] = 0
        return found


@dataclass(frozen=True)
class Certain(GoodStat):
    """Says of one prompt that it tells everything."""

    def interval(self, steered, base):
        found = float(self(steered, base))
        return found, found


@dataclass(frozen=True)
class Elsewhere(GoodStat):
    """Has the interval of a change."""

    def interval(self, steered, base):
        return (-0.1, 0.1) if len(steered.kl) > 1 else (-np.inf, np.inf)


@dataclass(frozen=True)
class GoodMetric(Metric):
    """Mean KL of ten tokens."""

    name: ClassVar[str] = "good"

    @property
    def tokens(self):
        return 10

    def measure(self, session):
        yield Measurement("kl", np.nanmean(session.rollout(10).kl, axis=-1))


@dataclass(frozen=True)
class Flat(GoodMetric):
    """Forgets the prompts."""

    def measure(self, session):
        yield Measurement("kl", session.rollout(10).kl, range(3), "the row has ended")


@dataclass(frozen=True)
class NoReason(GoodMetric):
    """Does not say why."""

    def measure(self, session):
        yield Measurement("kl", session.rollout(10).kl, range(10))


@dataclass(frozen=True)
class Infinite(GoodMetric):
    """Takes the logarithm of 0."""

    def measure(self, session):
        with np.errstate(divide="ignore"):
            yield Measurement("kl", np.log(np.nanmean(session.rollout(10).kl, axis=-1)))


@dataclass(frozen=True)
class NoShare(GoodMetric):
    """Takes a number for a share."""

    def measure(self, session):
        yield Measurement("kl", np.nanmean(session.rollout(10).kl, axis=-1), share=True)


@dataclass(frozen=True)
class ShowsNothing(GoodMetric):
    """Has a column for what it does not measure."""

    columns: ClassVar = (Column("nll"),)


@dataclass(frozen=True)
class NoTuple(GoodMetric):
    """Forgets the comma."""

    columns: ClassVar = Column("kl")


@dataclass(frozen=True)
class NoCurve(GoodMetric):
    """Calls a number per prompt a curve."""

    curves: ClassVar = (Curve("kl"),)


@dataclass(frozen=True)
class NoLater(GoodMetric):
    """Has no column for what is later."""

    columns: ClassVar = (Column("kl", role="headline", later="nll"),)


@dataclass(frozen=True)
class AsksForMore(GoodMetric):
    """Reads eleven tokens."""

    def measure(self, session):
        yield Measurement("kl", np.nanmean(session.rollout(11).kl, axis=-1))


@dataclass(frozen=True)
class Noisy(GoodMetric):
    """Adds chance."""

    def measure(self, session):
        kl = np.nanmean(session.rollout(10).kl, axis=-1)
        yield Measurement("kl", kl + np.random.default_rng().normal(size=kl.shape))


@dataclass(frozen=True)
class NeedsTwo(GoodMetric):
    """Assumes two alphas."""

    def measure(self, session):
        kl = np.nanmean(session.rollout(10).kl, axis=-1)
        yield Measurement("kl", kl - kl[1])


@dataclass(frozen=True)
class WritesRollout(GoodMetric):
    """Replaces NaN in the array that it was given."""

    def measure(self, session):
        kl = session.rollout(10).kl
        kl[np.isnan(kl)] = 0
        yield Measurement("kl", kl.mean(axis=-1))


class Moody(BehaviorPlugin):
    """A behavior that can be spoilt."""

    name, description = "moody", "A mood."

    def __init__(self, **spoilt):
        prompts = tuple(Prompt(f"How is day {i}?") for i in range(128))
        self.parts = {
            "personas": (("Be glad.", "Be sad."),),
            "prompts": prompts,
            "answer": Answer("It is", (" good",), (" bad",)),
        }
        self.description = spoilt.pop("description", self.description)
        self.parts |= spoilt

    def load(self, prompt_set):
        return PromptSet(**self.parts)


class Wavering(Moody):
    """Another order each time."""

    def load(self, prompt_set):
        prompts = self.parts["prompts"]
        self.parts["prompts"] = (*prompts[1:], prompts[0])
        return super().load(prompt_set)


PROMPTS = Moody().parts["prompts"]
SAME_WORD = Answer("It is", (" good",), (" good", " bad"))


class Clay(ModelPlugin):
    """A model that can be spoilt."""

    name, description = "clay", "Soft."

    def __init__(self, description="Soft.", **stated):
        self.description = description
        self.stated = {"source": "clay", "blocks": 2} | stated

    def identity(self):
        return dict(self.stated)

    def load(self, *, device, dtype):
        config = SimpleNamespace(get_text_config=lambda decoder: SimpleNamespace(num_hidden_layers=2))
        model = Talker()
        model.config = config
        return Loaded(
            self.prepare(model.to(device, dtype)),
            lambda text, return_tensors: {"input_ids": torch.zeros(1, 1)},
        )

    def prepare(self, model):
        return model.eval()


class Talker(torch.nn.Linear):
    """Says something."""

    def __init__(self):
        super().__init__(1, 3)

    def forward(self, input_ids):
        return SimpleNamespace(logits=super().forward(input_ids.to(self.weight.dtype)))


class Training(Clay):
    """Forgets eval()."""

    def prepare(self, model):
        return model.train()


class Drifting(Clay):
    """States another identity each time."""

    def identity(self):
        self.stated["n"] = self.stated.get("n", 0) + 1
        return dict(self.stated)


class Heavy(Clay):
    """Loads to state its identity."""

    def identity(self):
        self.load(device="cpu", dtype=torch.float32)
        return super().identity()


GOOD = {"method": Good(), "stat": GoodStat(), "metric": GoodMetric(), "behavior": Moody(), "model": Clay()}
BROKEN = [
    ("method", "label", Nameless()),
    ("method", "identity", Floor()),
    ("method", "per_row", OneDose()),
    ("method", "per_token", Mixes()),
    ("method", "dose_range", Backwards()),
    ("method", "effect", Idle()),
    ("method", "effect", OneSided()),
    ("method", "monotone", ComesBack()),
    ("method", "finite", Overflows()),
    ("method", "dtype", Double()),
    ("method", "device", KeepsATensor()),
    ("method", "device", MakesATensor()),
    ("method", "linear", SaysLinear()),
    ("method", "deterministic", Chance()),
    ("method", "data", DoubleState()),
    ("method", "data", Remembers()),
    ("method", "pure", InPlace()),
    ("method", "clean", Hooked()),
    ("method", "clean", Frozen()),
    ("method", "clean", Trained()),
    ("method", "clean", Reseeds()),
    ("method", "clean", LeavesAfterAnError()),
    ("method", "degenerate", Unguarded()),
    ("method", "degenerate", Raises()),
    ("method", "system", Mute(positive="")),
    ("method", "system", Mute(positive="Be gloomy.")),
    ("method", "system", Silent()),
    ("stat", "target", NoTarget()),
    ("stat", "sets", Pools()),
    ("stat", "ended", CountsTheEnd()),
    ("stat", "monotone", Falls()),
    ("stat", "grows", Constant()),
    ("stat", "unfinished", Counts()),
    ("stat", "no_shift", HasAFloor()),
    ("stat", "no_shift", NoShift()),
    ("stat", "needs_base", ReadsTheBase()),
    ("stat", "interval", Certain()),
    ("stat", "interval", Elsewhere()),
    ("stat", "pure", WritesKl()),
    ("metric", "shapes", Flat()),
    ("metric", "unscored", NoReason()),
    ("metric", "unscored", Infinite()),
    ("metric", "shares", NoShare()),
    ("metric", "declared", ShowsNothing()),
    ("metric", "declared", NoTuple()),
    ("metric", "declared", NoCurve()),
    ("metric", "declared", NoLater()),
    ("metric", "tokens", AsksForMore()),
    ("metric", "deterministic", Noisy()),
    ("metric", "small", NeedsTwo()),
    ("metric", "pure", WritesRollout()),
    ("behavior", "described", Moody(description="Two\nlines.")),
    ("behavior", "prompts", Moody(prompts=PROMPTS[:127])),
    ("behavior", "prompts", Moody(prompts=(*PROMPTS, Prompt("How is  DAY 5?")))),
    ("behavior", "personas", Moody(personas=(("Be glad.", "Be glad."),))),
    ("behavior", "personas", Moody(personas=())),
    ("behavior", "answer", Moody(answer=SAME_WORD)),
    ("behavior", "stable", Wavering()),
    ("model", "described", Clay(description="")),
    ("model", "identity", Clay(source="")),
    ("model", "identity", Clay(shape=(2, 3))),
    ("model", "stable", Drifting()),
    ("model", "light", Heavy()),
    ("model", "loads", Training()),
]


def failed(kind, plugin):
    return {
        verdict.law.name: verdict.reason
        for verdict in (law.judge(plugin) for law in LAWS[kind])
        if verdict.outcome == "failed"
    }


def test_a_good_prompt_and_a_good_edit_of_wide_linears_pass():
    assert failed("method", Mute()) == {}
    assert failed("method", Wide()) == {}


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_plugin_passes(kind):
    assert failed(kind, GOOD[kind]) == {}


@pytest.mark.parametrize(
    ("kind", "law", "plugin"),
    BROKEN,
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_broken_plugin_is_reported_by_exactly_its_law(kind, law, plugin):
    found = failed(kind, plugin)
    assert set(found) == {law}
    assert found[law]
    assert "\n" not in found[law]


def test_every_law_has_a_plugin_that_breaks_it():
    broken = {(kind, law) for kind, law, _ in BROKEN}
    assert broken >= {(kind, law.name) for kind, of_kind in LAWS.items() for law in of_kind} - {
        ("stat", "label"),  # the same function as for methods
        ("metric", "label"),
    }


@pytest.mark.parametrize("kind", LAWS)
def test_every_law_is_one_sentence(kind):
    assert len({law.name for law in LAWS[kind]}) == len(LAWS[kind])
    for law in LAWS[kind]:
        assert law.text.endswith(".")
        assert len(law.text) <= 120


def test_a_behavior_is_asked_for_the_sets_of_the_models_that_are_installed(monkeypatch):
    asked = set()
    monkeypatch.setattr(Moody, "load", lambda self, name: asked.add(name) or PromptSet(**self.parts))
    assert failed("behavior", Moody()) == {}
    models = load_registry().entries["model"].values()
    assert asked == {entry.component.prompt_set for entry in models} | {"plain", "a set of nobody's"}


def test_reasons_say_where():
    reasons = [
        failed("method", plugin)
        for plugin in (Floor(), OneDose(), Overflows(), Hooked(), Reseeds(), Unguarded())
    ]
    assert [next(iter(reason.values())) for reason in reasons] == [
        "at the block, dose 0 changes the output by 0.0348: write the edit as output + dose * (…)",
        "at the block, row 0 at dose 0 comes out differently in the batch than alone (by 0.195)",
        "at the block, dose 100 gives NaN or infinity",
        "at the block, forward_hooks of Block of the module is changed after fit and edit",
        "at the block, torch's random state is changed after fit and edit",
        "at the block, a contrast of zero gives NaN or infinity in state['v']: raise ValueError",
    ]


def test_a_token_of_zeros_is_no_excuse():
    assert set(failed("method", NotForZeros())) == {"identity", "finite"}


def test_an_exception_of_the_plugins_own_is_a_failure():
    @dataclass(frozen=True)
    class Stumbles(Good):
        """Raises."""

        def edit(self, output, dose, input, state):
            raise KeyError("w")

    assert failed("method", Stumbles())["identity"] == "KeyError: 'w'"


def registry_of(**components):
    registry = Registry()
    for kind, component in components.items():
        registry.entries[kind]["good"] = Entry(kind, "good", component, SOURCE)
    return registry


def test_find_takes_parameters_and_every_kind():
    registry = registry_of(method=Good, behavior=Moody())
    assert [(s.kind, s.label) for s in find("good", registry)] == [("method", "good"), ("behavior", "good")]
    with pytest.raises(IsoklError, match="unknown parameter of method 'good' 'rank'"):
        find("good[rank=2]", registry_of(method=Good))
    with pytest.raises(IsoklError, match="behavior 'good' takes no parameters: write good"):
        find("good[rank=2]", registry_of(behavior=Moody()))


def test_find_names_the_nearest_and_what_failed_to_load():
    registry = registry_of(method=Good)
    registry.add(SOURCE, lambda: 1 / 0)
    with pytest.raises(IsoklError) as error:
        find("god", registry)
    assert str(error.value) == (
        "unknown plugin 'god': did you mean 'good'? available: good; "
        "plugin 'test' (isokl-test 1) is left out: ZeroDivisionError: division by zero"
    )


def test_laws_are_tests():
    """What `test_laws = laws("pca")` is to pytest: a case for each law, that passes, skips or fails as the law does."""
    test = laws("pca")
    (mark,) = test.pytestmark
    cases = {case.id: case.values for case in mark.args[1]}
    assert list(cases) == [law.name for law in LAWS["method"]]
    test(*cases["identity"])
    subject, law = cases["identity"]
    with pytest.raises(pytest.fail.Exception, match="bit for bit"):
        test(SimpleNamespace(plugin=Floor()), law)
    with pytest.raises(pytest.skip.Exception, match="does not promise it"):
        test(SimpleNamespace(plugin=Good()), cases["linear"][1])
    assert subject.label == "pca"


def test_costly_laws_are_no_tests_by_default():
    (mark,) = laws("tiny-qwen").pytestmark
    assert [case.id for case in mark.args[1]] == ["described", "identity", "stable", "light"]


def test_a_broken_law_is_an_assertion():
    assert issubclass(Broken, AssertionError)
