"""engineered_prompt: all personas of one side and how to keep to them, as the system message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import PromptMethod, PromptSet

KEEP = "Always be like this: in all you say, from the first word to the last, whatever you are asked."


@dataclass(frozen=True)
class EngineeredPrompt(PromptMethod):
    """The instruction to keep to it in every word, then every positive persona of the behavior; the negative ones for sign −.

    A prompt as people write it who want to be sure: the same thing said in many ways, and said to hold for all that is
    asked. It has no dose. Known failure: a small model that was taught with one line at a time may follow one line better.
    """

    name: ClassVar[str] = "engineered_prompt"

    def system(self, prompts: PromptSet, sign: int) -> str:
        side = 0 if sign > 0 else 1
        return " ".join([KEEP, *(pair[side] for pair in prompts.personas)])
