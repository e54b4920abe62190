"""What pydantic found wrong with a configuration or a file, in our words."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from isokl_registry.errors import shown
from isokl_registry.suggest import unknown

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")
EXPECTED = {
    "string_type": "a text",
    "string_unicode": "a text of whole characters",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list, even of one",
    "tuple_type": "a list, even of one",
    "dict_type": "a table",
    "model_type": "a table",
    "too_short": "at least one",
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "value_error": "{error}",
}


def mistake(error: ErrorDetails, known: Iterable[str]) -> str:
    """One line that names the field, what it was given and what it takes.

    Args:
        error: one of `ValidationError.errors()`.
        known: the names that there are, for one that there is not.
    """
    loc, value, context = error["loc"], error["input"], error.get("ctx", {})
    field = field_of(loc)
    if error["type"] in UNKNOWN or not loc:  # a name of half a character has no place
        return unknown("field", str(loc[-1] if loc else value), known)
    if error["type"] == "unexpected_positional_argument":
        return f"{shown(value)} is one value too many: give fields by name"
    if error["type"] == "missing":
        return f"{field} is missing: give one"
    if error["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", context["expected"])
        if isinstance(value, str):
            return unknown(field, value, choices)
        return f"{field} is {shown(value)}: give {context['expected']}"
    expected = EXPECTED.get(error["type"])
    return f"{field} is {shown(value)}: " + (
        f"give {expected.format(**context)}" if expected else error["msg"]
    )


def field_of(loc: Iterable[int | str]) -> str:
    """personas[0].positive, from its parts."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
