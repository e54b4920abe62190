"""What Figure 1 draws, as numbers: bands of the KL over tokens and, below them, the means of other declared curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isokl_bench.results.declared import StoredCurve, curves_of, is_shift
from isokl_bench.results.lines import Line, Lines
from isokl_bench.results.runs import Run, selecting
from isokl_bench.results.seeds import seed_intervals
from isokl_registry import Curve

if TYPE_CHECKING:
    from isokl_db import Store

Array = NDArray[np.float64]
Points = list[dict[str, Any]]

SMOOTH = 16  # tokens
LONG = 64  # tokens; shorter windows are not smoothed
STEP = 2  # tokens between points of a smoothed curve
FLOOR = 1e-6  # nats; rounding leaves a KL of 0 or less, for which a logarithmic axis has no place

FIGURE_ALPHAS = (1.0, 2.0, 4.0)  # whose curves are drawn


@dataclass(frozen=True)
class Lower:
    """A curve in the lower panels.

    points: rows of method, variant, alpha, position, mean, low, high and over, of its interval. base: the same of the
    unsteered model, as the first line measured it.
    """

    curve: Curve
    points: Points
    base: Points


@dataclass(frozen=True)
class Block:
    """One model and behavior: a row of panels for the KL, and one for each other curve.

    kl: rows of method, variant, alpha, token, median, low, high, n and over, which says what the band is over: n
    prompts, or n seeds. budgets: (stat, target) wherever the stat is a level of KL. ends: of the windows that were
    calibrated on, in tokens.
    """

    title: str
    kl: Points
    lower: list[Lower]
    budgets: tuple[tuple[str, float], ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Curves:
    """Everything in Figure 1. lines: what colours and dashes stand for."""

    blocks: list[Block]
    lines: Lines
    alphas: list[float]
    smoothed: bool


def read_curves(store: Store, lines: Lines) -> Curves | None:
    """The curves of the lines; None where none is stored."""
    blocks = [_block(store, title, found) for title, found in lines.blocks.items()]
    blocks = [block for block in blocks if block.kl or block.lower]
    if not blocks:
        return None
    drawn = [point for block in blocks for points in of_block(block) for point in points]
    return Curves(
        blocks,
        lines,
        sorted({point["alpha"] for point in drawn}),
        any(_is_long([point["token"] for point in block.kl]) for block in blocks),
    )


def of_block(block: Block) -> list[Points]:
    """The points of each of its rows of panels."""
    return [points for points in (block.kl, *(lower.points for lower in block.lower)) if points]


def quantiles(
    position: Array, value: Array, shares: Sequence[float]
) -> tuple[Array, Array, NDArray[np.intp]]:
    """Per position the quantiles (by linear interpolation) of its values: positions, [share, position], counts."""
    order = np.lexsort((value, position))
    positions, starts, counts = np.unique(position[order], return_index=True, return_counts=True)
    place = np.asarray(shares)[:, None] * (counts - 1)
    below = place.astype(int)
    above = np.minimum(below + 1, counts - 1)
    ordered = value[order]
    low, high = ordered[starts + below], ordered[starts + above]
    bands: Array = low + (high - low) * (place - below)
    return positions, bands, counts.astype(np.intp)


def smooth(values: Array, width: int) -> Array:
    """Centred rolling mean along the last axis; at the ends over what there is."""
    n = values.shape[-1]
    sums = np.concatenate([np.zeros((*values.shape[:-1], 1)), np.cumsum(values, axis=-1)], axis=-1)
    at = np.arange(n)
    start, stop = np.maximum(at - width // 2, 0), np.minimum(at + width - width // 2, n)
    rolled: Array = (sums[..., stop] - sums[..., start]) / (stop - start)
    return rolled


def rounded(value: float) -> float:
    """As exact as any drawing of it."""
    return float(f"{value:.4g}")


def _block(store: Store, title: str, lines: Sequence[Line]) -> Block:
    kl: Points = []
    lower: dict[str, Lower] = {}
    for line in lines:
        for found in _curves(store, line):
            if found.curve.is_shift:
                kl += [line.keys | point for point in _kl(store, found)]
            elif points := _means(store, found):
                known = lower.setdefault(found.family, Lower(found.curve, [], []))
                known.points.extend(line.keys | point for point in points if point["alpha"])
                if not known.base:
                    known.base.extend(point for point in points if not point["alpha"])
    runs = [line.row.first for line in lines]
    budgets = {(run.stat, run.target) for run in runs if is_shift(run.stat)}
    ends = {run.window for run in runs if run.window}
    return Block(title, kl, list(lower.values()), tuple(sorted(budgets)), tuple(sorted(ends)))


@dataclass(frozen=True)
class _LineCurve:
    """One curve of one line. runs: those that have it, each with the label of its metric."""

    family: str
    curve: Curve
    runs: dict[Run, StoredCurve]


def _curves(store: Store, line: Line) -> list[_LineCurve]:
    """The curves of any run of a line."""
    found: dict[str, _LineCurve] = {}
    for run in line.runs:
        for stored in curves_of(store, run):
            of_line = found.setdefault(stored.family, _LineCurve(stored.family, stored.curve, {}))
            of_line.runs[run] = stored
    return list(found.values())


def _kl(store: Store, found: _LineCurve) -> Points:
    """Per alpha the bands of one line, along the tokens."""
    read = {
        alpha: [tokens_of(store, run, kl, f"alpha = {alpha}") for run, kl in found.runs.items()]
        for alpha in FIGURE_ALPHAS
    }
    there = {alpha: [points for points in runs if len(points)] for alpha, runs in read.items()}
    long = any(_is_long(points[:, 0]) for seeds in there.values() for points in seeds)
    width, step = (SMOOTH, STEP) if long else (1, 1)
    curve: Points = []
    for alpha, seeds in there.items():
        if not seeds:
            continue
        over = "seeds" if len(seeds) > 1 else "prompts"
        tokens, bands, counts = (
            _over_seeds(seeds, width) if len(seeds) > 1 else _over_prompts(seeds[0], width)
        )
        last = len(tokens) - 1
        bands = np.maximum(bands, FLOOR)
        names = ("median", "low", "high")
        curve += [
            {"alpha": alpha, "token": int(tokens[at]), "n": int(counts[at]), "over": over}
            | dict(zip(names, map(rounded, bands[:, at]), strict=True))
            for at in (*range(0, last, step), last)
        ]
    return curve


def tokens_of(store: Store, run: Run, kl: StoredCurve, condition: str, first: str = "position") -> Array:
    """Every token of a run under an SQL condition: its position (or another column) and its KL, [token, 2].

    Two columns, for reading them is what takes the time."""
    found = store.query(
        f"SELECT {first}, value FROM measurements WHERE metric = :metric AND quantity = :quantity "
        f"AND attempt_id = :attempt AND sign = :sign AND {condition} AND value IS NOT NULL",
        metric=kl.metric,
        quantity=kl.curve.quantity,
        attempt=run.attempt,
        sign=run.sign,
    )
    return np.array(found.rows, dtype=float).reshape(-1, 2)


def _over_prompts(
    points: Array, width: int, shares: Sequence[float] = (0.5, 0.1, 0.9)
) -> tuple[Array, Array, NDArray[np.intp]]:
    """Median and 10–90 % band over the prompts of one seed that are still running at a token."""
    tokens, bands, counts = quantiles(points[:, 0], points[:, 1], shares)
    return tokens, smooth(bands, width), counts


def _over_seeds(seeds: Sequence[Array], width: int) -> tuple[Array, Array, NDArray[np.intp]]:
    """Median and range, over the seeds that are still running at a token, of the median over each seed's prompts."""
    medians = [_over_prompts(points, width, (0.5,)) for points in seeds]
    tokens = np.concatenate([tokens for tokens, _, _ in medians])
    return quantiles(tokens, np.concatenate([median for _, (median,), _ in medians]), (0.5, 0, 1))


def _means(store: Store, found: _LineCurve) -> Points:
    """Means by alpha and position; the interval is over prompts for one seed, over seeds for several."""
    least, most = found.curve.ends or (-math.inf, math.inf)
    points: dict[tuple[float, int], list[tuple[float, float, float]]] = {}
    for alpha, position, mean, low, high in _summaries(store, found):
        ends = found.curve.ends or (mean, mean)  # an open end is as far as the curve can go, if anybody knows
        interval = ends[0] if low is None else low, ends[1] if high is None else high
        points.setdefault((alpha, position), []).append((mean, *interval))
    several = {key: [mean for mean, *_ in seeds] for key, seeds in points.items() if len(seeds) > 1}
    over_seeds = dict(zip(several, seed_intervals(list(several.values())), strict=True))
    curve = []
    for key, (first, *_) in points.items():
        mean, low, high = over_seeds.get(key, first)
        over = "seeds" if key in over_seeds else "prompts"
        numbers = {"mean": mean, "low": max(low, least), "high": min(high, most)}
        curve.append({"alpha": key[0], "position": key[1], "over": over} | numbers)
    return curve


def _summaries(store: Store, found: _LineCurve) -> list[Any]:
    """Alpha, position, mean, low and high of each, of all runs of a line."""
    runs: dict[str, list[Run]] = {}
    for run, stored in found.runs.items():
        runs.setdefault(stored.metric, []).append(run)
    of_metrics = [f"metric = :m{i} AND {selecting(of_metric)}" for i, of_metric in enumerate(runs.values())]
    alphas = ", ".join(f"{alpha:g}" for alpha in (0.0, *FIGURE_ALPHAS))
    sql = (
        f"SELECT alpha, position, mean, low, high FROM summaries WHERE ({' OR '.join(of_metrics)}) "
        f"AND quantity = :quantity AND alpha IN ({alphas}) AND position IS NOT NULL AND mean IS NOT NULL "
        "ORDER BY alpha, position, attempt_id"
    )
    given = {f"m{i}": metric for i, metric in enumerate(runs)}
    return list(store.query(sql, quantity=found.curve.quantity, **given).rows)


def _is_long(tokens: Sequence[Any] | Array) -> bool:
    return bool(np.max(tokens, initial=0) >= LONG - 1)
