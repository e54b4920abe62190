"""KL trajectories of single rollouts, with what became of each: what the spaghetti figure draws, as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isokl_bench.results.curves import FLOOR
from isokl_bench.results.declared import StoredCurve, shift_of
from isokl_bench.results.runs import Run
from isokl_bench.results.survival import Array, Flags
from isokl_bench.results.survival_rollouts import Rollouts, Series
from isokl_bench.results.table import TableRow

if TYPE_CHECKING:
    from isokl_db import Store

LEAST = 1.0  # alpha; a weaker steering has nothing to show
COLUMNS = 6  # alphas
ROWS = 9
LINES = 200  # of a panel
POINTS, LEAST_POINTS = 256, 32  # of a line
TOTAL = 150_000  # points of the figure


@dataclass(frozen=True)
class Trajectories:
    """The trajectories of one alpha, over all seeds and prompts.

    kl [n, p]: means over bins of `width` tokens, in nats or over the line's early p95; NaN after the row's end.
    died [n]. drawn: indices of the lines that are drawn. flat: lines left out, for they have no KL to divide by."""

    alpha: float
    width: int
    kl: Array
    died: Flags
    drawn: list[int]
    flat: int

    @property
    def token(self) -> Array:
        """The middle of each bin, [p]."""
        starts: Array = np.arange(self.kl.shape[1], dtype=float) * self.width
        return starts + (self.width - 1) / 2

    @property
    def median(self) -> Array:
        """Of all lines that are still running, [p]; NaN where none is."""
        running = ~np.isnan(self.kl).all(axis=0)
        median = np.full(self.kl.shape[1], np.nan)
        median[running] = np.nanmedian(self.kl[:, running], axis=0)
        return median


@dataclass(frozen=True)
class Spaghetti:
    """All panels: a row of them, by alpha, for each row of Table 1. `left_out` says what is not drawn, "" if nothing."""

    rows: list[tuple[Series, list[Trajectories]]]
    normalized: bool
    left_out: str

    @property
    def panels(self) -> list[Trajectories]:
        """Those of all rows."""
        return [panel for _, panels in self.rows for panel in panels]


def read_spaghetti(store: Store, series: Sequence[Series], normalize: bool) -> Spaghetti | None:
    """The trajectories of the rollouts in these series; None where there are none at alpha 1 or more.

    Of several metrics of one row of Table 1 that tell who died the one that reaches furthest is taken."""
    readers = [_Reader(store, found, _longest(store, found.row), normalize) for found in _furthest(series)]
    readers = [reader for reader in readers if reader.kl]
    alphas = sorted({alpha for reader in readers[:ROWS] for alpha in reader.series.alphas if alpha >= LEAST})
    panels = [
        [(alpha, reader.series.alphas[alpha]) for alpha in alphas[:COLUMNS] if alpha in reader.series.alphas]
        for reader in readers[:ROWS]
    ]
    lines = sum(min(LINES, rollouts.survival.n) for row in panels for _, rollouts in row)
    points = max(LEAST_POINTS, min(POINTS, TOTAL // max(1, lines)))
    rows = []
    for reader, wanted in zip(readers, panels, strict=False):
        found = [reader.panel(alpha, rollouts, points) for alpha, rollouts in wanted]
        rows.append((reader.series, [panel for panel in found if len(panel.kl)]))
    rows = [row for row in rows if row[1]]
    return Spaghetti(rows, normalize, _left_out(len(readers), len(alphas))) if rows else None


def early_p95(kl: Array, window: int | None) -> Array:
    """The 95th percentile (linear interpolation) of each line's first `window` tokens, [n] of [n, t]."""
    p95: Array = np.nanpercentile(kl[:, :window], 95, axis=1)
    return p95


def binned(kl: Array, width: int) -> Array:
    """Means of `width` tokens each, of those that there are: [n, ceil(t / width)] of [n, t], NaN where none is."""
    n, tokens = kl.shape
    padded = np.pad(kl, ((0, 0), (0, -tokens % width)), constant_values=np.nan)
    bins = padded.reshape(n, -(-tokens // width), width)
    counts = (~np.isnan(bins)).sum(axis=2)
    with np.errstate(invalid="ignore"):  # 0 / 0, where a row has ended
        means: Array = np.nansum(bins, axis=2) / counts
    return means


def evenly(n: int, most: int) -> list[int]:
    """`most` of n indices, evenly spread; all where there are no more."""
    return list(range(n)) if n <= most else [i * n // most for i in range(most)]


@dataclass(frozen=True)
class _Reader:
    """Reads the trajectories of one series, a run and an alpha at a time, and keeps only their bins.

    kl: by attempt the curve of its KL, and the tokens of it."""

    store: Store
    series: Series
    kl: dict[int, tuple[StoredCurve, int]]
    normalize: bool

    def panel(self, alpha: float, rollouts: Rollouts, points: int) -> Trajectories:
        tokens = max(tokens for _, tokens in self.kl.values())
        width = -(-tokens // points)
        fates = dict(zip(rollouts.keys, rollouts.survival.died.tolist(), strict=True))
        kls: list[Array] = []
        died: list[bool] = []
        flat = 0
        for run in self.series.row.reached:
            if run.attempt in self.kl:
                prompts, kl = self._read(run, alpha, tokens)
                known = np.array([(run.attempt, prompt) in fates for prompt in prompts], dtype=bool)
                kl, usable = self._scaled(kl, run.window)
                flat += int((known & ~usable).sum())
                kept = np.flatnonzero(known & usable)
                kls.append(binned(kl[kept], width))
                died += [fates[run.attempt, prompts[i]] for i in kept]
        kl = np.concatenate(kls)
        return Trajectories(alpha, width, kl, np.array(died, dtype=bool), evenly(len(kl), LINES), flat)

    def _read(self, run: Run, alpha: float, tokens: int) -> tuple[list[int], Array]:
        """The prompts of a run and their KL at each token, [prompt, token]; NaN after a row's end."""
        given = {
            "attempt": run.attempt,
            "sign": run.sign,
            "alpha": alpha,
            "metric": self.kl[run.attempt][0].metric,
            "quantity": self.kl[run.attempt][0].curve.quantity,
        }
        found = self.store.query(
            "SELECT prompt, position, value FROM measurements WHERE attempt_id = :attempt AND metric = :metric "
            "AND quantity = :quantity AND alpha = :alpha AND sign = :sign AND value IS NOT NULL",
            **given,
        )
        prompt, position, value = np.array(found.rows, dtype=float).reshape(-1, 3).T
        prompts, row = np.unique(prompt.astype(int), return_inverse=True)
        kl = np.full((len(prompts), tokens), np.nan)
        kl[row, position.astype(int)] = value
        return prompts.tolist(), kl

    def _scaled(self, kl: Array, window: int | None) -> tuple[Array, Flags]:
        """Each line over its early p95, if so wanted, and whether it can be, [n]."""
        if not self.normalize or not len(kl):
            return kl, np.ones(len(kl), dtype=bool)
        scale = early_p95(kl, window)
        usable: NDArray[np.bool_] = scale > FLOOR
        return kl / np.where(usable, scale, 1.0)[:, None], usable


def _furthest(series: Sequence[Series]) -> list[Series]:
    """Of the series of each row of Table 1 the one with the last fork."""
    found: dict[int, Series] = {}
    for one in series:
        known = found.setdefault(id(one.row), one)
        found[id(one.row)] = max(known, one, key=lambda s: s.end)
    return list(found.values())


def _longest(store: Store, row: TableRow) -> dict[int, tuple[StoredCurve, int]]:
    """By attempt the curve of its KL that reaches furthest, and its tokens; without those that have none."""
    longest: dict[int, tuple[StoredCurve, int]] = {}
    for run in row.reached:
        kl = shift_of(store, run)
        if kl is None:
            continue
        given = {"attempt": run.attempt, "sign": run.sign, "metric": kl.metric, "least": LEAST}
        ((last,),) = store.query(
            "SELECT MAX(position) FROM measurements WHERE attempt_id = :attempt AND sign = :sign "
            "AND metric = :metric AND quantity = :quantity AND alpha >= :least",
            quantity=kl.curve.quantity,
            **given,
        ).rows
        if last is not None:
            longest[run.attempt] = kl, int(last) + 1
    return longest


def _left_out(rows: int, alphas: int) -> str:
    parts = [f"the first {ROWS} of {rows} rows"] if rows > ROWS else []
    parts += [f"the first {COLUMNS} of {alphas} alphas"] if alphas > COLUMNS else []
    if not parts:
        return ""
    return f"The spaghetti figure draws {' and '.join(parts)}; choose others with --model, --behavior, --method …"
