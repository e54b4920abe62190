"""What Figure 1 draws, as numbers: KL bands over tokens and answer mass over fork points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from isokl_bench.report.cells import Sheet
from isokl_bench.report.runs import Run
from isokl_bench.report.seeds import seed_intervals
from isokl_bench.report.table import Row

if TYPE_CHECKING:
    from isokl_db import Store

Array = NDArray[np.float64]
Curve = list[dict[str, Any]]

ALPHAS = (1.0, 2.0, 4.0)
SMOOTH = 16  # tokens
LONG = 64  # tokens; shorter windows are not smoothed
FLOOR = 1e-6  # nats; rounding leaves a KL of 0 or less, for which a logarithmic axis has no place
METHODS = 7  # as many colours as can be told apart
BLOCKS = 6
RUNS = 24  # whose tokens are read

ALIVE = 0.75  # answer mass of a model that can still answer
KL_STATS = ("kl_p95", "kl_mean", "kl_max")


@dataclass(frozen=True)
class Block:
    """One model and behavior: two rows of panels.

    kl: rows of series, alpha, token, median, low, high, prompts. pmass: rows of series, alpha, fork, mean, low, high.
    base: the pmass of the unsteered model, as the first series measured it.
    budgets: (stat, target) wherever the stat is a KL. windows: tokens that were calibrated on.
    """

    title: str
    kl: Curve
    pmass: Curve
    base: Curve
    budgets: tuple[tuple[str, float], ...]
    windows: tuple[int, ...]


@dataclass(frozen=True)
class Curves:
    """Everything in Figure 1. `left_out` says what was selected but is not drawn, "" if nothing."""

    blocks: list[Block]
    series: list[str]
    alphas: list[float]
    seeds: int
    smoothed: bool
    left_out: str


def read_curves(store: Store, sheet: Sheet) -> Curves | None:
    """The curves of the rows of Table 1, or of the first of them where they are many; None where none is stored."""
    rows = [row for row in sheet.rows if row.reached]
    titles = list(dict.fromkeys(_title(row) for row in rows))
    series = sorted({_series(sheet, row) for row in rows})
    drawn = [
        row for row in rows if _title(row) in titles[:BLOCKS] and _series(sheet, row) in series[:METHODS]
    ]
    drawn, seeds = drawn[:RUNS], max(1, RUNS // max(1, len(drawn)))
    blocks = [
        _block(store, sheet, title, [row for row in drawn if _title(row) == title], seeds)
        for title in dict.fromkeys(map(_title, drawn))
    ]
    blocks = [block for block in blocks if block.kl or block.pmass]
    if not blocks:
        return None
    curves = [point for block in blocks for point in (*block.kl, *block.pmass)]
    return Curves(
        blocks,
        sorted({point["series"] for point in curves}),
        sorted({point["alpha"] for point in curves}),
        max(min(seeds, len(row.reached)) for row in drawn),
        any(_is_long([point["token"] for point in block.kl]) for block in blocks),
        _left_out(rows, drawn, seeds),
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


def _title(row: Row) -> str:
    return " · ".join(row.first.names[:2])


def _series(sheet: Sheet, row: Row) -> str:
    words = [
        value if name in ("sign", "protocol", "budget") else f"{name} {value}"
        for name, value in sheet.dimensions(row.first).items()
    ]
    return row.first.names[2] + (f" ({', '.join(words)})" if words else "")


def _block(store: Store, sheet: Sheet, title: str, rows: Sequence[Row], seeds: int) -> Block:
    kl: Curve = []
    pmass: Curve = []
    base: Curve = []
    for row in rows:
        runs, series = row.reached[:seeds], {"series": _series(sheet, row)}
        kl += [series | point for point in _kl(store, runs)]
        forks = _pmass(store, runs)
        pmass += [series | point for point in forks if point["alpha"]]
        base = base or [point for point in forks if not point["alpha"]]
    budgets = {(row.first.stat, row.first.target) for row in rows if row.first.stat in KL_STATS}
    windows = {row.first.window for row in rows if row.first.window}
    return Block(title, kl, pmass, base, tuple(sorted(budgets)), tuple(sorted(windows)))


def _kl(store: Store, runs: Sequence[Run]) -> Curve:
    """Median and 10–90 % band over the prompts of all seeds that are still running at a token."""
    sql = (
        "SELECT alpha, position, value FROM measurements WHERE metric = 'kl_trajectory' AND quantity = 'kl' "
        f"AND {_of(runs)} AND alpha IN (1, 2, 4) AND value IS NOT NULL"
    )
    found = np.array(store.query(sql).rows, dtype=float).reshape(-1, 3)
    curve: Curve = []
    for alpha in np.unique(found[:, 0]):
        _, position, value = found[found[:, 0] == alpha].T
        tokens, bands, counts = quantiles(position, value, (0.5, 0.1, 0.9))
        if _is_long(tokens):
            bands = smooth(bands, SMOOTH)
        bands = np.maximum(bands, FLOOR)
        names = ("median", "low", "high")
        curve += [
            {"alpha": float(alpha), "token": int(token), "prompts": int(count)}
            | dict(zip(names, map(_rounded, band), strict=True))
            for token, band, count in zip(tokens, bands.T, counts, strict=True)
        ]
    return curve


def _pmass(store: Store, runs: Sequence[Run]) -> Curve:
    """Mean answer mass; the interval is over prompts for one seed, over seeds for several."""
    sql = (
        "SELECT alpha, position, mean, low, high FROM summaries WHERE metric = 'branch_pmass' AND quantity = 'pmass' "
        f"AND {_of(runs)} AND alpha IN (0, 1, 2, 4) AND mean IS NOT NULL ORDER BY alpha, position, attempt_id"
    )
    points: dict[tuple[float, int], list[tuple[float, float, float]]] = {}
    for alpha, position, *interval in store.query(sql).rows:
        points.setdefault((alpha, position), []).append((interval[0], interval[1], interval[2]))
    several = {key: [mean for mean, *_ in found] for key, found in points.items() if len(found) > 1}
    over_seeds = dict(zip(several, seed_intervals(list(several.values())), strict=True))
    return [
        {"alpha": alpha, "fork": fork, **dict(zip(("mean", "low", "high"), interval, strict=True))}
        for (alpha, fork), (first, *_) in points.items()
        for interval in [over_seeds.get((alpha, fork), first)]
    ]


def _rounded(value: float) -> float:
    """As exact as any drawing of it."""
    return float(f"{value:.4g}")


def _of(runs: Sequence[Run]) -> str:
    attempts = ", ".join(str(run.attempt) for run in runs)
    return f"attempt_id IN ({attempts}) AND sign = {runs[0].sign}"


def _is_long(tokens: Sequence[Any] | Array) -> bool:
    return len(tokens) > 0 and max(tokens) >= LONG - 1


def _left_out(rows: Sequence[Row], drawn: Sequence[Row], seeds: int) -> str:
    total, shown = sum(len(row.reached) for row in rows), sum(min(seeds, len(row.reached)) for row in drawn)
    if shown == total:
        return ""
    lines = f"the first {len(drawn)} of {len(rows)} rows of Table 1"
    if any(len(row.reached) > seeds for row in drawn):
        lines += f", at most {seeds} seed{'s' if seeds > 1 else ''} each"
    return (
        f"Figure 1 draws {shown} of {total} runs: {lines}; choose others with --model, --behavior, --method …"
    )
