"""What Figure 1 draws, as numbers: bands of the KL over tokens and, below them, the means of other declared curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isokl_bench.results.declared import StoredCurve, curves_of
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
KL_STATS = ("kl_p95", "kl_mean", "kl_max")


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
    prompts, or n seeds. budgets: (stat, target) wherever the stat is a KL. ends: of the windows that were calibrated on,
    in tokens.
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
        for stored in _curves(store, line.runs).values():
            if next(iter(stored.values())).curve.is_shift:
                kl += [line.keys | point for point in _kl(store, stored)]
            else:
                _add_means(store, lower, stored, line.keys)
    runs = [line.row.first for line in lines]
    budgets = {(run.stat, run.target) for run in runs if run.stat in KL_STATS}
    ends = {run.window for run in runs if run.window}
    return Block(title, kl, list(lower.values()), tuple(sorted(budgets)), tuple(sorted(ends)))


def _curves(store: Store, runs: Sequence[Run]) -> dict[str, dict[Run, StoredCurve]]:
    """By family each curve of the runs that have it."""
    found: dict[str, dict[Run, StoredCurve]] = {}
    for run in runs:
        for stored in curves_of(store, run):
            found.setdefault(stored.family, {})[run] = stored
    return found


def _add_means(
    store: Store, lower: dict[str, Lower], stored: dict[Run, StoredCurve], keys: dict[str, str]
) -> None:
    """The means of one line to those of the block."""
    first = next(iter(stored.values()))
    points = _means(store, stored)
    if points:
        known = lower.setdefault(first.family, Lower(first.curve, [], []))
        known.points.extend(keys | point for point in points if point["alpha"])
        if not known.base:
            known.base.extend(point for point in points if not point["alpha"])


def _kl(store: Store, stored: dict[Run, StoredCurve]) -> Points:
    """Per alpha the bands of one line, along the tokens."""
    found = {
        alpha: [
            points
            for run, kl in stored.items()
            if len(points := tokens_of(store, run, kl, f"alpha = {alpha}"))
        ]
        for alpha in FIGURE_ALPHAS
    }
    long = any(_is_long(points[:, 0]) for seeds in found.values() for points in seeds)
    width, step = (SMOOTH, STEP) if long else (1, 1)
    curve: Points = []
    for alpha, seeds in found.items():
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


def _means(store: Store, stored: dict[Run, StoredCurve]) -> Points:
    """Means by alpha and position; the interval is over prompts for one seed, over seeds for several."""
    least, most = next(iter(stored.values())).curve.ends or (-math.inf, math.inf)
    points: dict[tuple[float, int], list[tuple[float, float, float]]] = {}
    for alpha, position, mean, low, high in _summaries(store, stored):
        open_ends = (least, most) if math.isfinite(least) else (mean, mean)  # open: as far as it can go
        low, high = (
            end if known is None else known for known, end in zip((low, high), open_ends, strict=True)
        )
        points.setdefault((alpha, position), []).append((mean, low, high))
    several = {key: [mean for mean, *_ in found] for key, found in points.items() if len(found) > 1}
    over_seeds = dict(zip(several, seed_intervals(list(several.values())), strict=True))
    curve = []
    for key, (first, *_) in points.items():
        mean, low, high = over_seeds.get(key, first)
        over = "seeds" if key in over_seeds else "prompts"
        interval = {"mean": mean, "low": max(low, least), "high": min(high, most)}
        curve.append({"alpha": key[0], "position": key[1], "over": over} | interval)
    return curve


def _summaries(store: Store, stored: dict[Run, StoredCurve]) -> list[Any]:
    """Alpha, position, mean, low and high of each, of all runs of a line."""
    first = next(iter(stored.values()))
    metrics = list({one.metric for one in stored.values()})
    of_metrics = [
        f"metric = :metric{place} AND {selecting([run for run, one in stored.items() if one.metric == metric])}"
        for place, metric in enumerate(metrics)
    ]
    alphas = ", ".join(f"{alpha:g}" for alpha in (0.0, *FIGURE_ALPHAS))
    sql = (
        f"SELECT alpha, position, mean, low, high FROM summaries WHERE ({' OR '.join(of_metrics)}) "
        f"AND quantity = :quantity AND alpha IN ({alphas}) AND position IS NOT NULL AND mean IS NOT NULL "
        "ORDER BY alpha, position, attempt_id"
    )
    given = {f"metric{place}": metric for place, metric in enumerate(metrics)}
    return list(store.query(sql, quantity=first.curve.quantity, **given).rows)


def _is_long(tokens: Sequence[Any] | Array) -> bool:
    return bool(np.max(tokens, initial=0) >= LONG - 1)
