"""The texts of a config, numbered within their split; one text stands in one place only."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from isokl_db.errors import StoreError
from isokl_db.schema import SPLITS


def number_prompts(prompts: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """The rows of the prompts table, less the config's hash.

    Raises:
        StoreError: a split is unknown, or a text stands twice (which the table's UNIQUE constraint would
            refuse too, but not by name).
    """
    seen: dict[str, str] = {}
    rows = []
    for split, texts in prompts.items():
        if split not in SPLITS:
            raise StoreError(f"no split {split!r}; prompts are split into {', '.join(SPLITS)}")
        for position, text in enumerate(texts):
            digest, place = sha256(text.encode()).hexdigest(), f"{split} {position}"
            if digest in seen:
                short = text if len(text) <= 60 else text[:59] + "…"
                raise StoreError(
                    f"the prompt {short!r} is both {seen[digest]} and {place}; remove one of them"
                )
            seen[digest] = place
            rows.append({"split": split, "position": position, "sha256": digest, "text": text})
    return rows
