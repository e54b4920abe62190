"""Parametrised plugins: frozen dataclasses whose fields are the parameters a person may set."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import typing
from contextlib import suppress
from dataclasses import dataclass
from types import UnionType
from typing import Any, ClassVar, Self

from isokl_registry.errors import IsoklError
from isokl_registry.suggest import unknown

QUOTED = r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*\""""
LIST = rf"""\[(?:{QUOTED}|[^\[\]'"])*\]"""
PAIR = re.compile(rf"(?:{QUOTED}|{LIST}|[^,])+")  # no comma outside quotes and lists
WORD = re.compile(r"[\w./%+-]+")


@dataclass(frozen=True)
class Component:
    """Base of methods, stats and metrics. `name` and `version` identify it in the config hash; raise `version`
    whenever the numbers it produces change.

    A parameter is a float, int, bool or str, None where the hint allows it, one of a Literal's texts, or a list or
    tuple[…, ...] of these, written `name[layers=[1,2]]`."""

    kind: ClassVar[str] = "component"
    name: ClassVar[str] = ""
    version: ClassVar[int] = 1

    @classmethod
    def create(cls, params: dict[str, Any]) -> Self:
        """Build from parsed parameters.

        Raises:
            IsoklError: for an unknown name, or a value of another type.
        """
        fields = {f.name: f for f in dataclasses.fields(cls)}
        hints = typing.get_type_hints(cls)
        for key in params:
            if key not in fields:
                raise IsoklError(unknown(f"parameter of {cls.kind} {cls.name!r}", key, fields))
        missing = [n for n, f in fields.items() if n not in params and _required(f)]
        if missing:
            raise IsoklError(f"{cls.kind} {cls.name!r} needs {missing[0]}: write {cls.name}[{missing[0]}=…]")
        values = {key: _coerce(cls, key, value, hints[key]) for key, value in params.items()}
        try:
            return cls(**values)
        except ValueError as error:
            raise IsoklError(f"{cls.kind} {cls.name!r}: {error}") from error

    def params(self) -> dict[str, Any]:
        """All parameters with their values, defaults included, as JSON-able values."""
        return dataclasses.asdict(self)

    def label(self) -> str:
        """How reports and the command line write it: the name, and the parameters that are not the default."""
        changed = [
            f"{f.name}={_text(getattr(self, f.name))}"
            for f in dataclasses.fields(self)
            if _required(f) or getattr(self, f.name) != _default(f)
        ]
        return f"{self.name}[{','.join(changed)}]" if changed else self.name

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring."""
        return (inspect.getdoc(cls) or "").split("\n", 1)[0]


def parse_spec(text: str) -> tuple[str, dict[str, Any]]:
    """Split `name[key=value,…]` into the name and its parameters.

    Values are Python literals, true/false/none or words (in quotes where they hold a comma); a list is written in
    brackets, as in `name[layers=[1,2],rate=0.5]`.

    Raises:
        IsoklError: when the brackets or a pair are malformed.
    """
    name, bracket, rest = text.strip().partition("[")
    if not bracket:
        return name, {}
    if not rest.endswith("]"):
        raise IsoklError(f"{text!r} does not end with ']': write it as name[key=value,key=value]")
    params: dict[str, Any] = {}
    for pair in filter(str.strip, PAIR.findall(rest[:-1])):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise IsoklError(f"{pair!r} in {text!r} is not key=value: write it as name[key=value,key=value]")
        if key.strip() in params:
            raise IsoklError(f"{key.strip()!r} is given twice in {text!r}: keep one")
        params[key.strip()] = _literal(value.strip())
    return name.strip(), params


def _literal(text: str) -> Any:
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _text(value: Any) -> str:
    """The value as `parse_spec` reads it back."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    if isinstance(value, list | tuple):  # read back as Python writes it, so with True and None
        return f"[{','.join(map(repr, value))}]"
    plain = isinstance(value, str) and WORD.fullmatch(value) and _literal(value) == value
    return str(value) if plain else repr(value)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _coerce(cls: type[Component], key: str, value: Any, hint: Any) -> Any:
    """The value as its hint has it. Raises IsoklError where it is none."""
    try:
        return _as(value, hint)
    except TypeError:
        pass
    choices = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        raise IsoklError(unknown(f"{key} of {cls.kind} {cls.name!r}", str(value), map(str, choices)))
    raise IsoklError(f"{cls.kind} {cls.name!r}: {key}={_text(value)} is not {_words(hint)}")


def _as(value: Any, hint: Any) -> Any:
    """The value, with a float for an int and a tuple for a list where the hint asks for that. Raises TypeError."""
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin is Any or type(value) is hint:
        return value
    if origin is typing.Literal and any(type(value) is type(arg) and value == arg for arg in args):
        return value
    if origin in (UnionType, typing.Union) and type(value) in args:
        return value
    if origin in (UnionType, typing.Union):
        return _as_one_of(value, args)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(_as(item, args[0] if args else Any) for item in value)
    if origin is float and type(value) is int and abs(value) < sys.float_info.max:
        return float(value)
    raise TypeError(value)


def _as_one_of(value: Any, hints: tuple[Any, ...]) -> Any:
    for hint in hints:
        with suppress(TypeError):
            return _as(value, hint)
    raise TypeError(value)


def _words(hint: Any) -> str:
    """A hint as people say it."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (UnionType, typing.Union):
        return " or ".join(map(_words, args))
    if origin in (list, tuple):
        return f"a list of {_words(args[0])}"
    return "none" if hint is type(None) else getattr(hint, "__name__", str(hint))
