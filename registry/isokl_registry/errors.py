"""The one exception that people see, and how it shows a value."""

from __future__ import annotations

LONGEST = 60  # characters of a value in an error


class IsoklError(Exception):
    """One line that names the thing, the cause and the fix; the command line prints it without a traceback."""


def shown(value: object) -> str:
    """Any value as an error shows it: its repr, in one line that is not too long and can be written anywhere."""
    try:
        text = repr(value)
    except Exception:  # a stranger's repr, or an int of too many digits
        text = f"<{type(value).__name__}>"
    text = " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
