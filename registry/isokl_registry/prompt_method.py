"""What a prompt baseline is: a method that steers with a system message alone, and so has no dose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from isokl_registry.behavior import PromptSet
from isokl_registry.component import Component


class PromptMethod(Component, ABC):
    """Steering by prompt, a method beside those that fit an edit. Subclass it as a frozen dataclass:

        @dataclass(frozen=True)
        class Please(PromptMethod):
            '''One line, source.'''
            name: ClassVar[str] = "please"
            def system(self, prompts, sign): return "Please be " + ("kind." if sign > 0 else "unkind.")

    Nothing is fitted or calibrated, and layers mean nothing to it: the prompted model (alpha 1) is measured against
    the same model without the system message (alpha 0), and its KL stands as it is.
    """

    kind: ClassVar[str] = "method"

    @abstractmethod
    def system(self, prompts: PromptSet, sign: int) -> str:
        """The system message that moves a model to the positive (sign 1) or the negative persona (sign −1).

        Raise ValueError when the prompt set does not have what it takes."""
