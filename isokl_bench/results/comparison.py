"""Which of two methods has the larger effect, as far as their seeds can tell."""

from __future__ import annotations

from collections.abc import Sequence

from isokl_bench.results.effect import effect, effects_by_seed
from isokl_bench.results.seeds import seed_intervals
from isokl_bench.results.table import Row


def told_apart(pairs: Sequence[tuple[Row, Row]]) -> list[bool]:
    """Whether the first of each two has the larger effect; one to the side that was not asked for is less than none.

    With two or more seeds that both have, it is where the 95 % interval of the paired difference over them is above 0.
    With fewer, their own intervals must not overlap: the prompts of one seed know nothing of how its calibration might
    have come out otherwise."""
    effects = {id(row): effects_by_seed(row) for pair in pairs for row in pair}
    samples = [_by_seed(effects[id(above)], effects[id(below)]) for above, below in pairs]
    intervals = iter(seed_intervals([sample for sample in samples if len(sample) > 1]))
    found = []
    for (above, below), sample in zip(pairs, samples, strict=True):
        if len(sample) > 1:
            _, low, _ = next(intervals)
            found.append(low > 0)
        else:
            found.append(_clear(above, below))
    return found


def _by_seed(above: dict[int | None, float], below: dict[int | None, float]) -> list[float]:
    """Differences of two effects, for each seed that both have."""
    return [above[seed] - below[seed] for seed in above if seed in below]


def _clear(above: Row, below: Row) -> bool:
    """Whether the interval of an effect is above that of another; an end that is not known may lie anywhere."""
    larger, smaller = effect(above), effect(below)
    if larger is None or larger.low is None or smaller is None or smaller.high is None:
        return False
    return larger.low > smaller.high
