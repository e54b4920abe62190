"""The law of prompt baselines: what they have to say."""

from __future__ import annotations

from isokl_registry.behavior import Answer, Prompt, PromptSet
from isokl_registry.conformance.law import require, skip
from isokl_registry.method import Method
from isokl_registry.prompt_method import PromptMethod

PERSONAS = (("You are always cheerful.", "You are always gloomy."), ("You see the good.", "You see the bad."))
PROMPTS = PromptSet(PERSONAS, (Prompt("How is the garden?"),), Answer("Answer:", (" good",), (" bad",)))


def system(method: Method | PromptMethod) -> None:
    """A prompt method has a different system message for each side, and the same one each time."""
    if isinstance(method, Method):
        skip("only prompt methods have one")
    said = {}
    for sign in (1, -1):
        said[sign] = method.system(PROMPTS, sign)
        require(
            isinstance(said[sign], str) and said[sign].strip(),
            f"for sign {sign:+d} it says {said[sign]!r}, which is not a text",
        )
        require(
            method.system(PROMPTS, sign) == said[sign], f"for sign {sign:+d} it says something else each time"
        )
    require(said[1] != said[-1], "it says the same for both signs")
