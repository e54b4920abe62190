"""Numbers and values as the words that people read, whatever they are printed in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isokl_registry import Column

NOTHING = "—"  # where there is no value
OPEN = "open"  # an end of an interval that lies beyond what was tried


def number(value: float, digits: int, *, signed: bool = False) -> str:
    """A fixed number of decimals and a real minus sign; an effect that they would hide is written as ±1e−3."""
    text = format(value, f"{'+' if signed else ''}.{digits}f")
    if abs(value) < 1 and not float(text):
        text = f"{value:+.0e}".replace("e-0", "e-") if signed and value else text.lstrip("+-")
    return text.replace("-", "−")


def amount(value: float) -> str:
    """Two decimals."""
    return number(value, 2)


def change(value: float) -> str:
    """Two decimals behind a sign."""
    return number(value, 2, signed=True)


def significant(value: float) -> str:
    """Three significant digits without an exponent where that can be read."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "−")
    digits = 2 if not value else max(0, 2 - int(f"{abs(value):.2e}".partition("e")[2]))
    return number(value, digits)


def writer(column: Column) -> Callable[[float], str]:
    """How a column's numbers are written."""
    return (
        significant if column.digits is None else partial(number, digits=column.digits, signed=column.signed)
    )


def bracket(low: float | None, high: float | None, write: Callable[[float], str]) -> str:
    """An interval, "" where there is none; an end that is not known while the other is, is open."""
    if low is None and high is None:
        return ""
    return f"[{OPEN if low is None else write(low)}, {OPEN if high is None else write(high)}]"


def gigabytes(size: float) -> str:
    """A number of bytes."""
    return f"{size / 1e9:.2f} GB"


def short(value: object) -> str:
    """A value of the config as a label: its text, or the start of a digest where that is long."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 16 else hashlib.sha256(text.encode()).hexdigest()[:8]
