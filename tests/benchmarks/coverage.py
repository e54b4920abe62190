"""How often intervals hold the truth: `make coverage` prints the table of docs/intervals.md.

The prompts of a recording are the population, and its value is the truth. Sets of n prompts are drawn from it
with replacement, and every set gets its interval, by the functions that runs use."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from isokl_bench.engine.search import crossing, crossing_interval
from isokl_registry import IsoklError, Stat, interval, load_registry
from tests.benchmarks.pools import Pool, pool

Array = NDArray[np.float64]
SIZES, SETS = (4, 8, 16, 32), 500
MODELS = ("smollm2", "tiny-qwen")


@dataclass
class Drawn:
    """Sets of prompts [set, n] from a recording. middle: the dose of it at which values are looked at."""

    pool: Pool
    sets: NDArray[np.int64]
    middle: int

    def of_means(self) -> Iterator[tuple[str, Array]]:
        """Whether each of the sets is held, open ends included: 1, 0; by row of the table."""
        kl, nll = np.nanmean(self.pool.kl[self.middle], 1), np.nanmean(self.pool.nll[self.middle], 1)
        moved = self.pool.ratio[-1] - self.pool.ratio[0]
        for name, values in (
            ("mean over prompts of a skewed number (KL)", kl),
            ("mean of paired differences (NLL)", nll - np.nanmean(self.pool.own, 1)),
            ("mean of paired differences (log-ratio)", moved),
        ):
            yield name, held(*interval.means(values[self.sets]), values.mean())
        for share in (0.03, 0.1, 0.5):
            hits = kl >= np.quantile(kl, 1 - share)
            ends = interval.shares(hits[self.sets].sum(1).astype(float), self.sets.shape[1])
            yield f"share of prompts, {hits.mean():.0%}", held(*ends, hits.mean())

    def of_stat(self, name: str, stat: Stat, target: float) -> Iterator[tuple[str, Array]]:
        """The stat at the middle dose, and the coefficient at which it is the target."""
        doses = self.pool.doses.tolist()
        truth = [float(stat(self.pool.at(i), self.pool.base)) for i in range(len(doses))]
        values, roots = [], []
        for prompts in self.sets:
            base = self.pool.base.of(prompts)
            steered = [self.pool.at(i).of(prompts) for i in range(len(doses))]
            found = [float(stat(one, base)) for one in steered]
            ends = [stat.interval(one, base) for one in steered]
            values.append(ends[self.middle])
            roots.append(_coefficient(doses, found, ends, target))
        yield name, held(*np.array(values).T, truth[self.middle])
        yield f"coefficient of {name}", held(*np.array(roots).T, crossing(doses, truth, target))

    def undeclared(self, name: str, stat: Stat) -> Iterator[tuple[str, Array]]:
        everybody, base = self.pool.at(self.middle), self.pool.base
        ends = [interval.resampled(stat, everybody.of(some), base.of(some)) for some in self.sets]
        yield name, held(*np.array(ends).T, float(stat(everybody, base)))


def _coefficient(
    doses: Sequence[float], values: Sequence[float], ends: Sequence[interval.Ends], target: float
) -> interval.Ends:
    root = crossing(doses, values, target)
    if not 0 < root < np.inf:
        return interval.OPEN
    low, high = crossing_interval(doses, ends, target, root)
    return (low if low > 0 else -np.inf), high


def held(low: Array, high: Array, truth: float) -> Array:
    """[set, (held, ends that are open)]"""
    return np.stack([(low <= truth) & (truth <= high), (np.isinf(low) + np.isinf(high)) / 2], axis=1)


def coverage(recorded: Pool, sizes: Sequence[int], sets: int) -> dict[str, list[str]]:
    """By row of the table a cell for each size."""
    registry = load_registry()
    p95, mean, nll = (registry.create("stat", name) for name in ("kl_p95", "kl_mean", "nll"))
    everybody = [recorded.at(i) for i in range(len(recorded.doses))]
    root = crossing(
        recorded.doses.tolist(), [float(p95(one, recorded.base)) for one in everybody], p95.target
    )
    middle = int(np.abs(np.log(recorded.doses / root)).argmin())
    targets = [float(stat(everybody[middle], recorded.base)) for stat in (mean, nll)]
    rows: dict[str, list[str]] = {}
    for n in sizes:
        drawn = Drawn(
            recorded, np.random.default_rng(n).integers(0, recorded.own.shape[0], (sets, n)), middle
        )
        parts = [
            drawn.of_means(),
            drawn.of_stat("kl_p95", p95, p95.target),
            drawn.of_stat("kl_mean", mean, targets[0]),
            drawn.of_stat("nll", nll, targets[1]),
            drawn.undeclared("kl_p95, by the interval of a stat that declares none", p95),
        ]
        for part in parts:
            for name, cells in part:
                share, opened = cells.mean(0)
                rows.setdefault(name, []).append(
                    f"{share:.1%}" + (f" ({opened:.0%} open)" if opened > 0.005 else "")
                )
        print(f"n = {n} done", file=sys.stderr)
    return rows


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--model", action="append", help="one or more; default: smollm2 and tiny-qwen")
    parser.add_argument("--behavior", default="sentiment")
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--cache", type=Path, default=user_cache_path("isokl-bench") / "coverage")
    given = parser.parse_args()
    for model in given.model or MODELS:
        try:
            recorded = pool(model, given.behavior, given.cache)
        except IsoklError as error:
            print(f"{model}: {error}", file=sys.stderr)
            continue
        print(f"\n**{model}, {given.behavior}**: {given.sets} sets of n of {recorded.own.shape[0]} prompts\n")
        print("| interval | " + " | ".join(f"n = {n}" for n in SIZES) + " |\n|---|" + "--:|" * len(SIZES))
        for name, cells in coverage(recorded, SIZES, given.sets).items():
            print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
