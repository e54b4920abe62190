"""Parametrised plugins: frozen dataclasses whose fields are the parameters a person may set."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import typing
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from isokl_registry.errors import IsoklError
from isokl_registry.suggest import unknown

PAIR = re.compile(r"""(?:'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,])+""")  # no comma outside quotes
WORD = re.compile(r"[\w./%+-]+")


@dataclass(frozen=True)
class Component:
    """Base of methods, stats and metrics. `name` and `version` identify it in the config hash; raise `version`
    whenever the numbers it produces change."""

    kind: ClassVar[str] = "component"
    name: ClassVar[str] = ""
    version: ClassVar[int] = 1

    @classmethod
    def create(cls, params: dict[str, Any]) -> Self:
        """Build from parsed parameters. Raises IsoklError for an unknown name or a value of another type."""
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
    """Split `name[key=value,…]` into the name and its parameters; values are Python literals, true/false or words
    (in quotes where they hold a comma).

    Raises IsoklError when the brackets or a pair are malformed."""
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
    plain = isinstance(value, str) and WORD.fullmatch(value) and _literal(value) == value
    return str(value) if plain else repr(value)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _coerce(cls: type[Component], key: str, value: Any, hint: Any) -> Any:
    if typing.get_origin(hint) is typing.Literal:
        if value not in typing.get_args(hint):
            choices = map(str, typing.get_args(hint))
            raise IsoklError(unknown(f"{key} of {cls.kind} {cls.name!r}", str(value), choices))
        return value
    allowed = [arg for arg in typing.get_args(hint) or (hint,) if isinstance(arg, type)]
    if type(value) is int and float in allowed and int not in allowed:
        return float(value)
    if allowed and type(value) not in allowed:
        names = " or ".join("none" if t is type(None) else t.__name__ for t in allowed)
        raise IsoklError(f"{cls.kind} {cls.name!r}: {key}={_text(value)} is not {names}")
    return value
