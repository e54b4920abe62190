"""prompt: the persona as the system message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_registry import PromptMethod, PromptSet


@dataclass(frozen=True)
class PersonaPrompt(PromptMethod):
    """The positive persona of pair `persona` (0 is the first) as system message; the negative one for sign −.

    What everybody can do without touching a model: the contrast itself, of which the other methods fit a trace. It has
    no dose, so its KL is what it is, and may be far from the budget. Known failure: long replies drift from the persona.
    """

    name: ClassVar[str] = "prompt"
    persona: int = 0

    def __post_init__(self) -> None:
        if self.persona < 0:
            raise ValueError("persona must be 0 or more: it is the index of a pair")

    def system(self, prompts: PromptSet, sign: int) -> str:
        if self.persona >= len(prompts.personas):
            raise ValueError(
                f"persona {self.persona} is not among the {len(prompts.personas)} pairs (from 0)"
            )
        return prompts.personas[self.persona][0 if sign > 0 else 1]
