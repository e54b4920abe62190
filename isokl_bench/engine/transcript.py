"""What several rollouts write, each row of it once: rollouts that share rows (the same dose on the same prompt, drawn
alike) or the beginning of longer ones need no generation of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isokl_bench.engine.batching import distinct_texts
from isokl_bench.engine.sampling import Sampler

Array = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Wanted:
    """A rollout to be made: `window` tokens (fewer after EOS) from every prompt (token ids) at every dose.

    sampler: None for greedy."""

    prompts: Sequence[Sequence[int]]
    doses: Sequence[float]
    window: int
    sampler: Sampler | None = None


Row = tuple[float, tuple[int, ...], Sampler | None]  # dose, prompt, and what draws its tokens


@dataclass
class Transcript:
    """Every distinct row of some rollouts, as far as it has been written.

    window: [row], the most tokens that anybody wants of it. dose, prompt: [row], places in `doses` and `prompts`.
    tokens, kl, nll: [row, token], complete, finite: [dose], as in a Rollout.
    """

    rows: list[Row]
    window: Ints
    doses: list[float] = field(init=False)
    prompts: list[tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.doses, dose = distinct_texts(dose for dose, *_ in self.rows)
        self.prompts, prompt = distinct_texts(prompt for _, prompt, _ in self.rows)
        self.dose: Ints = np.array(dose)
        self.prompt: Ints = np.array(prompt)
        shape = (len(self.rows), int(self.window.max()))
        self.tokens: Ints = np.full(shape, -1, dtype=np.int64)
        self.kl, self.nll = (np.zeros(shape) for _ in range(2))
        self.complete, self.finite = (np.ones(len(self.doses), dtype=bool) for _ in range(2))

    @classmethod
    def of(cls, wanted: Sequence[Wanted]) -> tuple[Transcript, list[Ints]]:
        """A blank transcript of some rollouts, and the rows of each, [dose, prompt]."""
        window: dict[Row, int] = {}
        for one in wanted:
            for row in _rows(one):
                window[row] = max(window.get(row, 0), one.window)
        place = {row: i for i, row in enumerate(window)}
        where = [
            np.array([place[row] for row in _rows(one)]).reshape(len(one.doses), len(one.prompts))
            for one in wanted
        ]
        return cls(list(window), np.array(list(window.values()))), where


def _rows(wanted: Wanted) -> list[Row]:
    prompts = [tuple(prompt) for prompt in wanted.prompts]
    return [(dose, prompt, wanted.sampler) for dose in wanted.doses for prompt in prompts]
