"""Which method moves the answer most for the same budget: an order of methods that does not claim more than it knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

import numpy as np

from isokl_bench.results.comparison import told_apart
from isokl_bench.results.control import CONDITIONS, condition
from isokl_bench.results.declared import is_control
from isokl_bench.results.effect import effect, later_effect
from isokl_bench.results.lines import label
from isokl_bench.results.responses import Response, Responses
from isokl_bench.results.seeds import seed_intervals
from isokl_bench.results.table import Estimate, TableRow
from isokl_bench.results.table1 import Table1, describe

RUNS = 108  # whose tokens are read for the areas


@dataclass
class Entry:
    """A row of Table 1 in its ranking.

    ranks: the first and the last place it may have, None where it has no effect to rank. area: mean effect in nats
    over 0 to the ranking's `reach`, None where not known. remark: what to know about it, "" if nothing.
    """

    method: str
    row: TableRow
    ranks: tuple[int, int] | None = None
    area: Estimate | None = None
    remark: str = ""

    @cached_property
    def effect(self) -> Estimate | None:
        """The headline at alpha 1, towards the side that was asked for."""
        return effect(self.row)

    @property
    def later(self) -> Estimate | None:
        """The same after the reply."""
        return later_effect(self.row)

    @property
    def prompts(self) -> int | None:
        """Holdout prompts that the effect of a seed is a mean over."""
        key = self.row.headline.key(1.0) if self.row.headline else ""
        return next((stored[key].n for stored in self.row.stored if key in stored), None)

    @property
    def sizes(self) -> tuple[int, int]:
        """Prompts of a seed that the effect is a mean over, and that its dose was calibrated on."""
        return self.prompts or 0, self.row.first.n

    @property
    def is_control(self) -> bool:
        """Whether it is the control, whose side is chance."""
        return is_control(self.row.first.method)

    @property
    def is_reversed(self) -> bool:
        """Whether the answer is clearly moved away from the side that was asked for."""
        found = self.effect
        return found is not None and found.excludes_zero and found.mean < 0 and not self.is_control


@dataclass
class Ranking:
    """Methods on one behavior of one model at one budget, the largest effect first.

    reach: the largest KL in nats that all of them reach, None where no areas are known. unread: whether that is so
    because the runs are too many."""

    title: str
    entries: list[Entry]
    reach: float | None = None
    unread: bool = False

    @cached_property
    def fuller(self) -> tuple[int, int]:
        """The most prompts that any effect is a mean over, and that any dose was calibrated on."""
        held, calibrated = zip(*(entry.sizes for entry in self.entries if entry.effect), strict=True)
        return max(held), max(calibrated)

    def has_fewer(self, entry: Entry) -> bool:
        """Whether an effect was measured or calibrated on fewer prompts than another that it is ranked against."""
        return entry.effect is not None and any(n < m for n, m in zip(entry.sizes, self.fuller, strict=True))


def rankings(table: Table1, responses: Responses) -> list[Ranking]:
    """A ranking for each condition that two or more methods were run in, in the order of Table 1.

    Areas are those of the first, as many as fit into 108 runs."""
    grouped: dict[tuple[str, ...], list[TableRow]] = {}
    for row in table.without_twins[0]:
        grouped.setdefault(condition(row), []).append(row)
    found = [
        _ranking(table, rows) for rows in grouped.values() if len({row.first.method for row in rows}) > 1
    ]
    _find_ranks(found)
    left = RUNS
    for ranking in found:
        left -= sum(len(entry.row.reached) for entry in ranking.entries)
        ranking.unread = left < 0
        if not ranking.unread:
            _find_areas(ranking, responses)
    return found


def area(points: Sequence[tuple[float, float]], reach: float) -> float:
    """Mean effect over a KL from 0 to `reach`: the area between 0 and the straight lines that join the origin and the
    points (KL, effect) in the order of their KL, negative where they are, divided by `reach`."""
    kl, effects = np.array([(0.0, 0.0), *sorted(points)]).T
    inside = kl < reach
    y = np.append(effects[inside], np.interp(reach, kl, effects))
    return float(np.trapezoid(y, np.append(kl[inside], reach)) / reach)


def _ranking(table: Table1, rows: Sequence[TableRow]) -> Ranking:
    first = rows[0].first
    words = describe({k: v for k, v in table.within_block(first).items() if k in CONDITIONS})
    title = " · ".join(first.pair) + (f" ({words})" if words else "")
    entries = [Entry(label(table, row.first, CONDITIONS), row) for row in rows]
    entries.sort(key=lambda entry: -entry.effect.mean if entry.effect else np.inf)
    ranking = Ranking(title, entries)
    for entry in entries:
        entry.remark = ", ".join(filter(None, _remarks(table, ranking, entry)))
    return ranking


def _remarks(table: Table1, ranking: Ranking, entry: Entry) -> list[str]:
    measured = {other.row.headline.metric for other in ranking.entries if other.row.headline}
    return [
        "control" if entry.is_control else "",
        _remark(entry),
        "" if entry.row.first.has_dose else "no dose",
        f"not above {table.control}" if table.is_weak(entry.row) else "",
        _fewer(ranking, entry) if ranking.has_fewer(entry) else "",
        f"by {entry.row.headline.metric}" if entry.row.headline and len(measured) > 1 else "",
    ]


def _fewer(ranking: Ranking, entry: Entry) -> str:
    """How many prompts it has where others have how many: holdout and, where that differs too, calibration prompts."""
    both = zip(("", "calibration "), entry.sizes, ranking.fuller, strict=True)
    return " and ".join(f"{n} of {most} {kind}prompts" for kind, n, most in both if n < most)


def _remark(entry: Entry) -> str:
    if not entry.row.reached:
        return " / ".join(outcome.words for outcome, _ in entry.row.outcomes)
    if entry.effect is None:
        return "not measured"
    if entry.effect.low is None and entry.effect.high is None:
        return "no interval"
    if not entry.effect.excludes_zero:
        return "no effect"
    return "reversed" if entry.is_reversed else ""


def _find_ranks(found: Sequence[Ranking]) -> None:
    """Places from behind all that are clearly larger to before all that are clearly smaller."""
    ranked = [[entry for entry in ranking.entries if entry.effect] for ranking in found]
    pairs = [pair for entries in ranked for pair in combinations(entries, 2)]  # the larger first
    apart = told_apart([(above.row, below.row) for above, below in pairs])
    above, below = Counter[int](), Counter[int]()
    for (larger, smaller), clear in zip(pairs, apart, strict=True):
        above[id(smaller)] += clear
        below[id(larger)] += clear
    for entries in ranked:
        for entry in entries:
            entry.ranks = 1 + above[id(entry)], len(entries) - below[id(entry)]


def _find_areas(ranking: Ranking, responses: Responses) -> None:
    """Areas of the entries whose KL is stored, up to the largest KL that every seed of each of them reaches."""
    known: list[tuple[Entry, list[list[tuple[float, float]]]]] = []
    for entry in ranking.entries:
        seeds = [_points(entry.row, responses.of(run), run.sign) for run in entry.row.reached]
        if any(seeds) and entry.row.first.has_dose:  # an area is one over doses
            known.append((entry, [points for points in seeds if points]))
    reach = min((max(points)[0] for _, seeds in known for points in seeds), default=0.0)
    if not reach > 0:
        return
    ranking.reach = reach
    for entry, seeds in known:
        areas = [area(points, reach) for points in seeds]
        mean, low, high = seed_intervals([areas])[0] if len(areas) > 1 else (areas[0], None, None)
        entry.area = Estimate(mean, low, high, len(areas))


def _points(row: TableRow, response: Response, sign: int) -> list[tuple[float, float]]:
    family = row.headline.family if row.headline else ""
    return [(kl, sign * effects[family].mean) for kl, effects in response.values() if family in effects]
