"""A behavior written as a TOML file, checked so that a mistake is named with its file, line and field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from isokl_registry import Answer, BehaviorPlugin, IsoklError, Prompt, PromptSet, shown, unknown
from isokl_registry.toml import read_toml

KEYS = ("name", "description", "question", "prompts", "answer", "personas")
PLACE = "{prompt}"


@dataclass
class TomlBehavior(BehaviorPlugin):
    """The behavior in `path`; `town` says that the tiny models' own world has prompts for it too."""

    path: Path
    name: str
    town: bool = False

    @property
    def description(self) -> str:  # type: ignore[override]
        return str(self._file.data.get("description", f"read from {self.path}"))

    def load(self, prompt_set: str) -> PromptSet:
        plain = self._file.prompt_set()
        if prompt_set != "town" or not self.town:
            return plain
        from isokl_plugins.models.tiny import world

        prompts = tuple(Prompt(text, first) for text, first in world.prompts(self.name))
        return PromptSet(world.personas(self.name), prompts, world.answer(self.name))

    @cached_property
    def _file(self) -> _File:
        return _File.read(self.path)


class _File:
    """The parsed file, with its text so that errors can name a line."""

    def __init__(self, path: Path, text: str, data: dict[str, Any]) -> None:
        self.path, self.text, self.data = path, text, data

    @classmethod
    def read(cls, path: Path) -> _File:
        return cls(path, *read_toml(path, "behavior file"))

    def prompt_set(self) -> PromptSet:
        for key in self.data:
            self.check_keys(key, {key: None}, KEYS, "")
        for key in ("name", "description"):
            if not isinstance(self.data.get(key, "any"), str):
                raise self.error(key, f"is {shown(self.data[key])}: write a text", key)
        return PromptSet(self.personas(), self.prompts(), self.answer())

    def personas(self) -> tuple[tuple[str, str], ...]:
        pairs = self.required("personas", list, "at least one [[personas]] table")
        found = []
        for index, pair in enumerate(pairs):
            field = f"personas[{index}]"
            sides = [pair.get(side) if isinstance(pair, dict) else None for side in ("positive", "negative")]
            if isinstance(pair, dict):
                self.check_keys(field, pair, ("positive", "negative"), "personas")
            if not all(isinstance(side, str) and side.strip() for side in sides):
                raise self.error(field, "needs two texts, positive and negative", "personas", index)
            if sides[0] == sides[1]:
                raise self.error(field, "positive and negative are the same text", "personas", index)
            found.append((str(sides[0]), str(sides[1])))
        return tuple(found)

    def forms(self) -> list[str]:
        """The question forms that prompts take in turn; one text is a form for all."""
        given = self.data.get("question", PLACE)
        forms = given if isinstance(given, list) and given else [given]
        if not all(isinstance(form, str) and PLACE in form for form in forms):
            raise self.error(
                "question", f"must be a text with {PLACE} in it, or a list of such texts", "question"
            )
        return list(forms)

    def prompts(self) -> tuple[Prompt, ...]:
        forms = self.forms()
        seen: dict[str, int] = {}
        found = []
        for index, item in enumerate(self.required("prompts", list, "a list of texts")):
            entry = {"text": item} if isinstance(item, str) else item
            field = f"prompts[{index}]"
            text = entry.get("text") if isinstance(entry, dict) else None
            if not isinstance(text, str) or not text.strip():
                raise self.error(
                    field, 'must be a text or { text = "…", answer = "negative" }', "\0", 0, "prompts"
                )
            self.check_keys(field, entry, ("text", "answer"), "prompts")
            side = entry.get("answer", "positive")
            if side not in ("positive", "negative"):
                raise self.error(
                    f"{field}.answer", f"is {shown(side)}: write positive or negative", text, 0, "prompts"
                )
            key = " ".join(text.casefold().split())
            if key in seen:
                raise self.error(
                    field, f"repeats prompts[{seen[key]}]: every prompt must differ", text, 1, "prompts"
                )
            seen[key] = index
            form = forms[index % len(forms)]
            found.append(Prompt(form.replace(PLACE, text), side == "positive"))
        return tuple(found)

    def answer(self) -> Answer:
        table = self.required("answer", dict, "an [answer] table with prefill, positive and negative")
        self.check_keys("answer", table, ("prefill", "positive", "negative"), "answer")
        prefill = table.get("prefill")
        if not isinstance(prefill, str) or not prefill:
            raise self.error(
                "answer.prefill", "must be the text that comes before the answer word", "prefill", 0, "answer"
            )
        words: list[tuple[str, ...]] = []
        for side in ("positive", "negative"):
            value = table.get(side)
            if not isinstance(value, list) or not value or not all(isinstance(w, str) and w for w in value):
                raise self.error(f"answer.{side}", "must be a list of answer words", side, 0, "answer")
            words.append(tuple(value))
        if both := set(words[0]) & set(words[1]):
            raise self.error(
                "answer.negative", f"shares {sorted(both)[0]!r} with answer.positive", "negative", 0, "answer"
            )
        return Answer(prefill, *words)

    def required(self, key: str, kind: type, what: str) -> Any:
        value = self.data.get(key)
        if not isinstance(value, kind) or not value:
            raise self.error(key, f"is missing or empty: write {what}", key)
        return value

    def error(self, field: str, problem: str, at: str, nth: int = 0, within: str = "") -> IsoklError:
        """An error at the nth line that holds `at`, as a key or else as text, looking from the line of the key or table
        `within` on; where there is none, at that line."""
        lines = list(enumerate(self.text.splitlines(), 1))
        start = next((n for n, line in lines if _key(within).match(line)), 1) if within else 1
        rest = [(n, line) for n, line in lines if n >= start]
        hits = [n for n, line in rest if _key(at).match(line)] or [n for n, line in rest if at in line]
        line = hits[min(nth, len(hits) - 1)] if hits else start if within else len(lines)
        return IsoklError(f"{self.path}, line {line}, {field}: {problem}")

    def check_keys(self, field: str, table: dict[str, Any], known: tuple[str, ...], within: str) -> None:
        for key in table:
            if key not in known:
                raise self.error(field, unknown("field", key, known), key, 0, within)


def _key(name: str) -> re.Pattern[str]:
    """A line that assigns `name`, or opens the table `name`."""
    return re.compile(rf"\s*(\[+\s*)?{re.escape(name)}\s*(\]+|=)")
