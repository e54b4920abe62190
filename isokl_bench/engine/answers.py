"""Making a reply answer: what interrupts it, and the tokens that write each answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from isokl_bench.engine.lm import LanguageModel
from isokl_registry import Answer, IsoklError

THINK_END = "\nI should answer now.</think>"


@dataclass(frozen=True)
class AnswerTokens:
    """The tokens that write each answer, and the text that forces one."""

    prefill: str
    first: list[int]
    second: list[int]

    @classmethod
    def of(cls, answer: Answer, lm: LanguageModel) -> AnswerTokens:
        """Words of one token, quoted or not, else the first tokens of the words; a token that begins both
        answers belongs to none.

        Raises:
            IsoklError: when an answer has no token of its own, or nothing forces it.
        """
        if not lm.chat.encode(answer.prefill):
            raise IsoklError(
                "the text that forces an answer is empty: give the prefill that comes before its words"
            )
        sides = [
            [lm.chat.encode(word) for word in spellings(words)] for words in (answer.first, answer.second)
        ]
        whole = [list(dict.fromkeys(ids[0] for ids in side if len(ids) == 1)) for side in sides]
        begun = [list(dict.fromkeys(ids[0] for ids in side if ids)) for side in sides]
        first, second = (w or b for w, b in zip(whole, begun, strict=True))
        shared = set(first) & set(second)
        first, second = ([t for t in side if t not in shared] for side in (first, second))
        if not first or not second:
            words = answer.first if not first else answer.second
            raise IsoklError(
                f"this tokenizer begins the answers {', '.join(map(repr, answer.first))} and "
                f"{', '.join(map(repr, answer.second))} with the same token, so {words[0]!r} cannot be told "
                "apart: choose other answer words"
            )
        return cls(answer.prefill, first, second)


def spellings(words: Sequence[str]) -> list[str]:
    """The words, then the same behind an opening quote: `"true` is an answer, too."""
    return [*words, *(re.sub(r"^\s*", r'\g<0>"', word) for word in words)]


def interruption(prompt: str, reply: str, point: int) -> str:
    """What comes between a reply cut after `point` tokens and the prefill: open thinking is closed."""
    text = prompt[prompt.rfind("<think>") :] if prompt.rstrip().endswith("<think>") else ""
    text += reply
    if text.rfind("<think>") > text.rfind("</think>"):
        return f"{THINK_END}\n\n"
    return "\n\n" if point else ""
