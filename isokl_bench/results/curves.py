"""What Figure 1 draws, as numbers: KL bands over tokens and answer mass over fork points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isokl_bench.results.lines import Line, Lines, series_of, windows_of
from isokl_bench.results.runs import Run, selecting
from isokl_bench.results.seeds import seed_intervals

if TYPE_CHECKING:
    from isokl_db import Store

Array = NDArray[np.float64]
Curve = list[dict[str, Any]]

SMOOTH = 16  # tokens
LONG = 64  # tokens; shorter windows are not smoothed
STEP = 2  # tokens between points of a smoothed curve
FLOOR = 1e-6  # nats; rounding leaves a KL of 0 or less, for which a logarithmic axis has no place

ALIVE = 0.75  # answer mass of a model that can still answer
ALPHAS = (1.0, 2.0, 4.0)  # whose KL is drawn
KL_STATS = ("kl_p95", "kl_mean", "kl_max")


@dataclass(frozen=True)
class Block:
    """One model and behavior: two rows of panels.

    kl: rows of series, window, alpha, token, median, low, high, n and over, which says what the band is over: n
    prompts, or n seeds. pmass: rows of series, window, alpha, fork, mean, low, high and over, of its interval. base: the
    pmass of the unsteered model, as the first line measured it. budgets: (stat, target) wherever the stat is a KL. ends: of the windows that
    were calibrated on, in tokens.
    """

    title: str
    kl: Curve
    pmass: Curve
    base: Curve
    budgets: tuple[tuple[str, float], ...]
    ends: tuple[int, ...]


@dataclass(frozen=True)
class Curves:
    """Everything in Figure 1."""

    blocks: list[Block]
    series: list[str]
    windows: list[str]
    alphas: list[float]
    smoothed: bool


def read_curves(store: Store, lines: Lines) -> Curves | None:
    """The curves of the lines; None where none is stored."""
    blocks = [_block(store, title, found) for title, found in lines.blocks.items()]
    blocks = [block for block in blocks if block.kl or block.pmass]
    if not blocks:
        return None
    curves = [point for block in blocks for point in (*block.kl, *block.pmass)]
    return Curves(
        blocks,
        series_of(curves),
        windows_of(curves),
        sorted({point["alpha"] for point in curves}),
        any(_is_long([point["token"] for point in block.kl]) for block in blocks),
    )


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
    kl: Curve = []
    pmass: Curve = []
    base: Curve = []
    for line in lines:
        kl += [line.keys | point for point in _kl(store, line.runs)]
        forks = _pmass(store, line.runs)
        pmass += [line.keys | point for point in forks if point["alpha"]]
        base = base or [point for point in forks if not point["alpha"]]
    runs = [line.row.first for line in lines]
    budgets = {(run.stat, run.target) for run in runs if run.stat in KL_STATS}
    ends = {run.window for run in runs if run.window}
    return Block(title, kl, pmass, base, tuple(sorted(budgets)), tuple(sorted(ends)))


def _kl(store: Store, runs: Sequence[Run]) -> Curve:
    """Per alpha the bands of one line, along the tokens."""
    found = {alpha: [points for run in runs if len(points := _tokens(store, run, alpha))] for alpha in ALPHAS}
    long = any(_is_long(points[:, 0]) for seeds in found.values() for points in seeds)
    width, step = (SMOOTH, STEP) if long else (1, 1)
    curve: Curve = []
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


def _tokens(store: Store, run: Run, alpha: float) -> Array:
    """Every token of a run at one alpha: its position and its KL. Two columns, for reading them is what takes the time."""
    found = store.query(
        "SELECT position, value FROM measurements WHERE metric = 'kl_trajectory' AND quantity = 'kl' "
        "AND attempt_id = :attempt AND sign = :sign AND alpha = :alpha AND value IS NOT NULL",
        attempt=run.attempt,
        sign=run.sign,
        alpha=alpha,
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


def _pmass(store: Store, runs: Sequence[Run]) -> Curve:
    """Mean answer mass; the interval is over prompts for one seed, over seeds for several."""
    sql = (
        "SELECT alpha, position, mean, low, high FROM summaries WHERE metric = 'branch_pmass' AND quantity = 'pmass' "
        f"AND {selecting(runs)} AND alpha IN (0, 1, 2, 4) AND mean IS NOT NULL ORDER BY alpha, position, attempt_id"
    )
    points: dict[tuple[float, int], list[tuple[float, float, float]]] = {}
    for alpha, position, mean, low, high in store.query(sql).rows:
        ends = 0.0 if low is None else low, 1.0 if high is None else high  # open: as far as a mass goes
        points.setdefault((alpha, position), []).append((mean, *ends))
    several = {key: [mean for mean, *_ in found] for key, found in points.items() if len(found) > 1}
    over_seeds = dict(zip(several, seed_intervals(list(several.values())), strict=True))
    curve = []
    for key, (first, *_) in points.items():
        mean, low, high = over_seeds.get(key, first)
        over = "seeds" if key in over_seeds else "prompts"
        interval = {"mean": mean, "low": max(low, 0.0), "high": min(high, 1.0)}
        curve.append({"alpha": key[0], "fork": key[1], "over": over} | interval)
    return curve


def _is_long(tokens: Sequence[Any] | Array) -> bool:
    return bool(np.max(tokens, initial=0) >= LONG - 1)
