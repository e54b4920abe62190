"""All rankings of one budget taken together: what each method does over models and behaviors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

import numpy as np

from isokl_bench.results.comparison import told_apart
from isokl_bench.results.control import CONDITIONS
from isokl_bench.results.declared import Measure
from isokl_bench.results.ranking import Entry, Ranking
from isokl_bench.results.seeds import seed_intervals
from isokl_bench.results.table import Estimate
from isokl_bench.results.table1 import Table1, describe


@dataclass
class Standing:
    """A method over all pairs of model and behavior that it was run on.

    effect, later: the headline at alpha 1, and the same after the reply. beside: means of what is shown beside it, by
    name. measured, controlled: numbers of pairs in which it has an effect, and of those in which the control has one too.
    above, turned, first, fewer: of how many of them it is larger than the control (of `controlled`), reversed (None for
    the control, of which no side is asked), first, and measured on fewer prompts than another. reached: runs with a
    coefficient, None for a prompt, which needs none.
    """

    method: str
    effect: Estimate | None
    measured: int
    above: int
    controlled: int
    turned: int | None
    first: int
    later: float | None
    beside: dict[str, float]
    fewer: int
    reached: int | None
    runs: int
    seconds: float | None


@dataclass
class Board:
    """The standings under one condition, the largest effect first, and what its columns are."""

    title: str
    pairs: int
    headline: Measure | None
    later: Measure | None
    beside: list[Measure]
    control: str
    standings: list[Standing]


def leaderboards(table: Table1, found: Sequence[Ranking]) -> list[Board]:
    """One for each condition (sign, protocol, budget, window) under which two or more pairs are ranked."""
    grouped: dict[str, list[Ranking]] = {}
    for ranking in found:
        shown = table.dimensions(ranking.entries[0].row.first)
        title = describe({name: value for name, value in shown.items() if name in CONDITIONS})
        grouped.setdefault(title, []).append(ranking)
    columns = table.headline, table.later, table.beside, table.control
    return [
        Board(title, len(same), *columns, _standings(table, same))
        for title, same in grouped.items()
        if len(same) > 1
    ]


def _standings(table: Table1, same: Sequence[Ranking]) -> list[Standing]:
    methods: dict[str, list[Entry]] = {}
    for ranking in same:
        for entry in ranking.entries:
            methods.setdefault(_name(table, entry), []).append(entry)
    marks = _Marks(
        first={id(entry) for ranking in same for entry in _firsts(ranking)},
        controlled={
            id(e) for r in same if any(e.is_control and e.effect for e in r.entries) for e in r.entries
        },
        fewer={id(entry) for ranking in same for entry in ranking.entries if ranking.has_fewer(entry)},
    )
    found = [_standing(table, method, entries, marks) for method, entries in methods.items()]
    _find_intervals(found, list(methods.values()))
    return sorted(found, key=lambda s: -s.effect.mean if s.effect else np.inf)


def _name(table: Table1, entry: Entry) -> str:
    """The method, told from others of its name where any pair has several of them."""
    shown = table.within_any_block(entry.row.first)
    words = describe({name: value for name, value in shown.items() if name not in CONDITIONS})
    return entry.row.first.method + (f" ({words})" if words else "")


@dataclass(frozen=True)
class _Marks:
    """Ids of the entries that are first, of those beside a control, and of those with fewer prompts than another."""

    first: set[int]
    controlled: set[int]
    fewer: set[int]


def _standing(table: Table1, method: str, entries: Sequence[Entry], marks: _Marks) -> Standing:
    measured = [entry for entry in entries if entry.effect]
    effects, laters = _means(entry.effect for entry in measured), _means(entry.later for entry in measured)
    beside = {m.name: _means(e.row.estimates.get(m.key(1.0)) for e in measured) for m in table.beside}
    controlled = [entry for entry in measured if id(entry) in marks.controlled and not entry.is_control]
    runs = [run for entry in entries for run in entry.row.runs]
    times = [run.seconds for run in runs if run.reached and run.seconds is not None]
    return Standing(
        method=method,
        effect=Estimate(fmean(effects), None, None, len(effects)) if effects else None,
        measured=len(measured),
        above=sum(not table.is_weak(entry.row) and _asks(entry) for entry in controlled),
        controlled=len(controlled),
        turned=None if entries[0].is_control else sum(entry.is_reversed for entry in measured),
        first=sum(id(entry) in marks.first for entry in measured),
        later=fmean(laters) if laters else None,
        beside={name: fmean(means) for name, means in beside.items() if means},
        fewer=sum(id(entry) in marks.fewer for entry in measured),
        reached=sum(run.reached for run in runs) if runs[0].has_dose else None,
        runs=len(runs),
        seconds=median(times) if times else None,
    )


def _find_intervals(found: Sequence[Standing], entries: Sequence[Sequence[Entry]]) -> None:
    """Of the mean effect over pairs, where there are two or more of them."""
    effects = [_means(entry.effect for entry in of_method) for of_method in entries]
    several = [(standing, sample) for standing, sample in zip(found, effects, strict=True) if len(sample) > 1]
    intervals = seed_intervals([sample for _, sample in several])
    for (standing, sample), interval in zip(several, intervals, strict=True):
        standing.effect = Estimate(*interval, len(sample))


def _firsts(ranking: Ranking) -> list[Entry]:
    """The entry with the largest effect and those that are not clearly smaller, as far as they have one."""
    measured = [entry for entry in ranking.entries if entry.effect]
    smaller = told_apart([(measured[0].row, entry.row) for entry in measured[1:]]) if measured else []
    largest = measured[:1] + [entry for entry, told in zip(measured[1:], smaller, strict=True) if not told]
    return [entry for entry in largest if entry.effect and entry.effect.excludes_zero and _asks(entry)]


def _asks(entry: Entry) -> bool:
    """Whether the effect is on the side that was asked for."""
    return entry.effect is not None and entry.effect.mean > 0


def _means(estimates: Iterable[Estimate | None]) -> list[float]:
    return [estimate.mean for estimate in estimates if estimate]
