"""What a run tells while it works, for progress bars, plain lines and programs alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One thing that a run tells.

    kind: phase (begun), progress (in it), round (of a calibration), note or stored. progress: share of the work done,
    0 to 1.
    """

    kind: str
    text: str
    progress: float = 0.0
    data: Mapping[str, Any] = field(default_factory=dict)


Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """The listener that does not listen."""


def one_line(error: BaseException) -> str:
    """What went wrong, in one line that any database takes."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.encode("utf-8", "backslashreplace").decode()
