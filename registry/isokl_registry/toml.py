"""Reading a TOML file that a person wrote."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from isokl_registry.errors import IsoklError


def read_toml(path: Path, what: str) -> tuple[str, dict[str, Any]]:
    """Read and parse a file.

    Args:
        path: the file, in UTF-8, with or without a byte order mark.
        what: what it is, as errors call it: "behavior file".

    Returns:
        Its text, in which errors can find a line, and what it says.

    Raises:
        IsoklError: when it cannot be read, or is not TOML.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise IsoklError(f"{what} {path} does not exist: check the path") from None
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a path that none can be
        reason = getattr(error, "strerror", None) or error
        raise IsoklError(f"{what} {path} cannot be read ({reason}): check the path") from None
    try:
        return text, tomllib.loads(text)
    except RecursionError:
        raise IsoklError(f"{what} {path} is nested too deeply: write it flatter") from None
    except ValueError as error:  # TOMLDecodeError is one, and so is a number of 5 000 digits
        raise IsoklError(f"{what} {path} is not valid TOML: {error}") from None
