"""Laws of a behavior: what runs rely on."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from isokl_registry.behavior import BehaviorPlugin, PromptSet
from isokl_registry.conformance.law import require
from isokl_registry.registry import load_registry

PROMPTS = 64 + 32 + 32  # what a run takes by default: to fit on, to calibrate on, to validate and measure on


def _names() -> list[str]:
    """'plain', and what the installed models understand beside it."""
    models = load_registry().entries["model"].values()
    return ["plain", *sorted({entry.component.prompt_set for entry in models} - {"plain"})]


def _sets(behavior: BehaviorPlugin) -> Iterable[tuple[str, PromptSet]]:
    return [(name, behavior.load(name)) for name in _names()]


def described(behavior: BehaviorPlugin) -> None:
    """It is described in one line, and its version is a whole number."""
    text = behavior.description.strip()
    require(text and "\n" not in text, f"the description is {text!r}: write one line")
    require(isinstance(behavior.version, int), f"the version is {behavior.version!r}, not a whole number")


def prompts(behavior: BehaviorPlugin) -> None:
    """It has enough different prompts for a run with the default options."""
    for name, loaded in _sets(behavior):
        texts = [" ".join(prompt.text.casefold().split()) for prompt in loaded.prompts]
        require(all(texts), f"a prompt of the set {name!r} is empty")
        twice = sorted({text for text in texts if texts.count(text) > 1})
        require(not twice, f"a prompt of the set {name!r} is there twice: {(twice or [''])[0]:.60}")
        require(
            len(texts) >= PROMPTS,
            f"the set {name!r} has {len(texts)} prompts, and a run takes {PROMPTS}: 64 to fit, 32 to calibrate, 32 to hold out",
        )


def personas(behavior: BehaviorPlugin) -> None:
    """Its personas come in pairs of two different texts."""
    for name, loaded in _sets(behavior):
        require(loaded.personas, f"the set {name!r} has no personas")
        for i, pair in enumerate(loaded.personas):
            require(
                len(pair) == 2 and all(isinstance(text, str) and text.strip() for text in pair),
                f"persona pair {i} of the set {name!r} is not two texts",
            )
            require(
                pair[0].strip() != pair[1].strip(), f"persona pair {i} of the set {name!r} is one text twice"
            )


def answer(behavior: BehaviorPlugin) -> None:
    """The answer is forced by a text, and no word means both answers."""
    for name, loaded in _sets(behavior):
        first, second = loaded.answer.first, loaded.answer.second
        require(loaded.answer.prefill, f"the prefill of the set {name!r} is empty")
        for words in (first, second):
            require(words and all(words), f"an answer of the set {name!r} has no word, or an empty one")
        both = sorted(set(first) & set(second))
        require(not both, f"{both} of the set {name!r} mean both answers")


def stable(behavior: BehaviorPlugin) -> None:
    """It gives the same prompts each time, and 'plain' ones for a set that nobody has."""
    load: Callable[[str], PromptSet] = behavior.load
    for name in _names():
        require(load(name) == load(name), f"the set {name!r} differs the second time")
    require(load("a set of nobody's") == load("plain"), "an unknown set is not the plain one")
