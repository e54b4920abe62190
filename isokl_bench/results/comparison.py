"""Which of two methods, or of one and the control, has the larger number, as far as seeds and intervals can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from isokl_bench.results.effect import effect, effects_by_seed
from isokl_bench.results.seeds import seed_intervals
from isokl_bench.results.table import Estimate, TableRow


class Compared(NamedTuple):
    """One side of a comparison: its number for each seed, and its estimate over all of them."""

    by_seed: Mapping[int | None, float]
    estimate: Estimate | None


def told_larger(pairs: Sequence[tuple[Compared, Compared]]) -> list[bool]:
    """Whether the first of each two is clearly larger.

    With two or more seeds that both have, it is where the 95 % interval of the paired difference over them is above 0.
    With fewer, their own intervals must not overlap, where an end that is open may lie anywhere: the prompts of one seed
    know nothing of how its calibration might have come out otherwise."""
    samples = [
        [larger.by_seed[seed] - smaller.by_seed[seed] for seed in larger.by_seed if seed in smaller.by_seed]
        for larger, smaller in pairs
    ]
    intervals = iter(seed_intervals([sample for sample in samples if len(sample) > 1]))
    return [
        next(intervals)[1] > 0 if len(sample) > 1 else _is_clear(larger.estimate, smaller.estimate)
        for (larger, smaller), sample in zip(pairs, samples, strict=True)
    ]


def told_apart(pairs: Sequence[tuple[TableRow, TableRow]]) -> list[bool]:
    """Whether the first of each two has the larger effect; one to the side that was not asked for is less than none."""
    rows = {id(row): row for pair in pairs for row in pair}
    compared = {place: Compared(effects_by_seed(row), effect(row)) for place, row in rows.items()}
    return told_larger([(compared[id(above)], compared[id(below)]) for above, below in pairs])


def _is_clear(larger: Estimate | None, smaller: Estimate | None) -> bool:
    if larger is None or larger.low is None or smaller is None or smaller.high is None:
        return False
    return larger.low > smaller.high
