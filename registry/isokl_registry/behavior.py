"""What a behavior is: one axis of conduct, with personas at both ends, prompts, and a question form with two answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Prompt:
    """A user message that can be answered in the behavior's form. `first`: the positive persona gives the first
    answer word (for honesty: the claim is true)."""

    text: str
    first: bool = True


@dataclass(frozen=True)
class Answer:
    """How an answer is forced: `prefill` is appended to a reply, and the next token writes one of the words."""

    prefill: str
    first: tuple[str, ...]
    second: tuple[str, ...]


@dataclass(frozen=True)
class PromptSet:
    """Everything a model is told. personas: (positive, negative) system messages, paired by index."""

    personas: tuple[tuple[str, str], ...]
    prompts: tuple[Prompt, ...]
    answer: Answer


class BehaviorPlugin(ABC):
    """One behavior under one name, in one or more prompt sets ('plain' English is for any chat model)."""

    kind: ClassVar[str] = "behavior"
    name: str
    description: str
    version: int = 1

    @abstractmethod
    def load(self, prompt_set: str) -> PromptSet:
        """The prompts for models that understand `prompt_set`; behaviors without that set give 'plain'."""
