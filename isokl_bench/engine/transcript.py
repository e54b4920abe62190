"""What several rollouts write, each row of it once: rollouts that share rows (the same dose on the same
prompt, drawn alike) or the beginning of longer ones need no generation of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from isokl_bench.engine.batching import distinct_texts
from isokl_bench.engine.sampling import Sampler

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Wanted:
    """A rollout to be made: `window` tokens (fewer after EOS) from every prompt (token ids) at every dose.

    sampler: None for greedy. contexts: what the rows read in place of the prompts, as under a system message;
    the base model reads the prompts all the same."""

    prompts: Sequence[Sequence[int]]
    doses: Sequence[float]
    window: int
    sampler: Sampler | None = None
    contexts: Sequence[Sequence[int]] | None = None

    @property
    def rows(self) -> list[Row]:
        """[dose × prompt]"""
        contexts = self.prompts if self.contexts is None else self.contexts
        texts = [(tuple(prompt), tuple(own)) for prompt, own in zip(self.prompts, contexts, strict=True)]
        return [Row(dose, prompt, context, self.sampler) for dose in self.doses for prompt, context in texts]


class Row(NamedTuple):
    """What makes a row: its dose, the base model's prompt, what it reads itself, what draws its tokens."""

    dose: float
    prompt: tuple[int, ...]
    context: tuple[int, ...]
    sampler: Sampler | None


@dataclass
class Transcript:
    """Every distinct row of some rollouts, as far as it has been written.

    window: [row], the most tokens that anybody wants of it. dose: [row], places in `doses`. prompt, context:
    [row], places in `prompts`. tokens, kl, nll, entropy: [row, token], complete, finite: [dose], as in a Rollout.
    """

    rows: list[Row]
    window: Ints
    doses: list[float] = field(init=False)
    prompts: list[tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.doses, dose = distinct_texts(row.dose for row in self.rows)
        self.prompts, place = distinct_texts(
            [*(row.prompt for row in self.rows), *(row.context for row in self.rows)]
        )
        self.dose: Ints = np.array(dose)
        self.prompt: Ints
        self.context: Ints
        self.prompt, self.context = np.array(place).reshape(2, -1)
        shape = (len(self.rows), int(self.window.max()))
        self.tokens: Ints = np.full(shape, -1, dtype=np.int64)
        self.kl, self.nll, self.entropy = (np.zeros(shape) for _ in range(3))
        self.complete, self.finite = (np.ones(len(self.doses), dtype=bool) for _ in range(2))

    @classmethod
    def of(cls, wanted: Sequence[Wanted]) -> tuple[Transcript, list[Ints]]:
        """A blank transcript of some rollouts, and the rows of each, [dose, prompt]."""
        window: dict[Row, int] = {}
        for one in wanted:
            for row in one.rows:
                window[row] = max(window.get(row, 0), one.window)
        place = {row: i for i, row in enumerate(window)}
        where = [
            np.array([place[row] for row in one.rows]).reshape(len(one.doses), len(one.prompts))
            for one in wanted
        ]
        return cls(list(window), np.array(list(window.values()))), where
