"""The three disjoint sets of prompts of a run."""

from __future__ import annotations

import dataclasses
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from isokl_bench.pipeline.config import PROTOCOLS, RunConfig
from isokl_registry import IsoklError, Prompt


@dataclass(frozen=True)
class Splits:
    """Three disjoint sets of prompts, drawn with the run's seed."""

    fit: tuple[Prompt, ...]
    calibration: tuple[Prompt, ...]
    holdout: tuple[Prompt, ...]

    def texts(self) -> dict[str, list[str]]:
        """The user messages of each set."""
        return {f.name: [p.text for p in getattr(self, f.name)] for f in dataclasses.fields(self)}


def split_prompts(config: RunConfig, prompts: Sequence[Prompt], behavior: str) -> Splits:
    """Fit, calibration and holdout prompts: a seeded shuffle, cut in three.

    Args:
        config: its seed, protocol and numbers of prompts are read.
        prompts: all that the behavior has.
        behavior: its name, for errors.

    Raises:
        IsoklError: when there are too few prompts, or one is there twice.
    """
    sizes = _sizes(config)
    if sum(sizes.values()) > len(prompts):
        need = " + ".join(f"{size} {name}" for name, size in sizes.items())
        raise IsoklError(
            f"behavior {behavior!r} has {len(prompts)} prompts, but {need} are {sum(sizes.values())} and may not "
            "overlap: add prompts, or lower --fit-prompts, --calibration-prompts or --holdout-prompts"
        )
    order = list(prompts)
    random.Random(config.seed).shuffle(order)
    parts = []
    for size in sizes.values():
        parts.append(tuple(order[:size]))
        del order[:size]
    splits = Splits(*parts)
    _check_disjoint(splits, behavior)
    return splits


def _sizes(config: RunConfig) -> dict[str, int]:
    calibration, holdout = PROTOCOLS[config.protocol]
    return {
        "fit": config.fit_prompts,
        "calibration": calibration if config.calibration_prompts is None else config.calibration_prompts,
        "holdout": holdout if config.holdout_prompts is None else config.holdout_prompts,
    }


def _check_disjoint(splits: Splits, behavior: str) -> None:
    seen = set()
    for text in (text for part in splits.texts().values() for text in part):
        if text in seen:
            raise IsoklError(
                f"behavior {behavior!r} has the prompt {text[:60]!r} twice, so its prompt sets overlap: keep one"
            )
        seen.add(text)


def prompt_hashes(texts: Sequence[str]) -> list[str]:
    """First 16 hex digits of the SHA-256 of each text."""
    return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in texts]
