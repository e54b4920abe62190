"""Which of two methods has the larger effect, as far as their seeds can tell."""

from __future__ import annotations

from collections.abc import Sequence

from isokl_bench.report.control import EFFECT, effects_by_seed
from isokl_bench.report.seeds import seed_intervals
from isokl_bench.report.table import Estimate, Row


def told_apart(pairs: Sequence[tuple[Row, Row]]) -> list[bool]:
    """Whether the first of each two is larger in the size of its effect.

    With two or more seeds that both have, it is where the 95 % interval of the paired difference over them is above 0.
    With fewer, their own intervals must not overlap: the prompts of one seed know nothing of how its calibration might
    have come out otherwise."""
    sizes = {id(row): _sizes(row) for pair in pairs for row in pair}
    samples = [_by_seed(sizes[id(above)], sizes[id(below)]) for above, below in pairs]
    intervals = iter(seed_intervals([sample for sample in samples if len(sample) > 1]))
    found = []
    for (above, below), sample in zip(pairs, samples, strict=True):
        if len(sample) > 1:
            _, low, _ = next(intervals)
            found.append(low > 0)
        else:
            found.append(_clear(above.estimates[EFFECT], below.estimates[EFFECT]))
    return found


def _sizes(row: Row) -> dict[int | None, float]:
    """The effect with each seed, positive where it has the sign of the mean."""
    turn = 1.0 if row.estimates[EFFECT].mean > 0 else -1.0
    return {seed: turn * effect for seed, effect in effects_by_seed(row).items()}


def _by_seed(above: dict[int | None, float], below: dict[int | None, float]) -> list[float]:
    """Differences of the sizes of two effects, for each seed that both have."""
    return [above[seed] - below[seed] for seed in above if seed in below]


def _clear(above: Estimate, below: Estimate) -> bool:
    """Whether the intervals of two sizes of effect do not overlap; one that is not known may lie anywhere."""
    if above.low is None or above.high is None or below.low is None or below.high is None:
        return False
    least = above.low if above.mean > 0 else -above.high
    most = below.high if below.mean > 0 else -below.low
    return least > most
