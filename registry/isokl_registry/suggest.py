"""'Did you mean' for every name that a person types."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

from isokl_registry.errors import LONGEST, shown


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line: the unknown name, the nearest known one, and all that there are."""
    names = sorted(known)
    near = get_close_matches(name[:LONGEST].lower(), names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"unknown {kind} {shown(name)}: {hint}available: {', '.join(names) or 'none'}"
