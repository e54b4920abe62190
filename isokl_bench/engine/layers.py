"""Layer sets as people write them: 60%, 3, 3,5, 2-5, 30%-60%, all, -1."""

from __future__ import annotations

import re

from isokl_registry import IsoklError

FORMS = "60%, 3, 3,5, 2-5, 30%-60%, all or -1"
PLACE = r"-?\d+(?:\.\d+)?%?"
PART = re.compile(rf"({PLACE})(?:-({PLACE}))?")


def parse_layers(text: str, count: int) -> tuple[int, ...]:
    """Block indices for a set of layers as people write it; p% is block floor(p/100 · count).

    Args:
        text: one of FORMS, or several of them with commas between.
        count: how many blocks the model has.

    Returns:
        Sorted, without repeats; 0 is the first block.

    Raises:
        IsoklError: for another form, or a block that does not exist.
    """
    if text.strip() == "all":
        return tuple(range(count))
    layers: set[int] = set()
    for part in text.split(","):
        match = PART.fullmatch(part.strip())
        if match is None:
            raise IsoklError(f"cannot read layers {text!r}: write them as {FORMS}")
        first = _index(match[1], count, text)
        last = _index(match[2], count, text) if match[2] else first
        if last < first:
            raise IsoklError(
                f"layers {part.strip()!r} run backwards (blocks {first} to {last}): write the lower one first"
            )
        layers.update(range(first, last + 1))
    return tuple(sorted(layers))


def _index(place: str, count: int, text: str) -> int:
    if place.endswith("%"):
        share = float(place[:-1])
        if not 0 <= share <= 100:
            raise IsoklError(f"layer {place} in {text!r} is out of range: percentages go from 0% to 100%")
        return min(count - 1, int(share * count / 100))
    if "." in place:
        raise IsoklError(f"cannot read layers {text!r}: write them as {FORMS}")
    index = int(place)
    if not -count <= index < count:
        raise IsoklError(
            f"layer {index} is out of range: the model has blocks 0 to {count - 1} (or -{count} to -1)"
        )
    return index % count
