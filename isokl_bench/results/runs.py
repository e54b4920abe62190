"""The finished runs that a report is about: read from the store, filtered, and told apart."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from isokl_bench.results.wording import NOTHING
from isokl_db import Outcome
from isokl_registry import IsoklError, unknown

if TYPE_CHECKING:
    from isokl_db import Store

NAMES = ("model", "behavior", "method")


class Dimensions(NamedTuple):
    """What people vary beside model, behavior and method, as text."""

    sign: str
    protocol: str
    budget: str
    layers: str
    window: str


DIMENSIONS = Dimensions._fields
_COLUMNS = {*NAMES, "seed", "protocol", "stat", "target", "layers", "window"}


@dataclass(frozen=True, slots=True)
class Run:
    """One sign of the latest successful attempt at one config.

    method: its label, with the parameters that are not the default. other: the config but for names, dimensions and
    seed, as JSON; runs that agree in these three differ in their seed only.
    value, slope: the stat at the coefficient, and d log stat / d log dose there. pool: tokens that the stat saw, of n
    prompts.
    """

    attempt: int
    sign: int
    seed: int | None
    model: str
    behavior: str
    method: str
    dimensions: Dimensions
    other: str
    stat: str
    target: float
    window: int | None
    outcome: Outcome
    coefficient: tuple[float, float | None, float | None]
    value: float | None
    slope: float | None
    pool: int | None
    n: int
    seconds: float | None

    @property
    def pair(self) -> tuple[str, str]:
        """Model and behavior: what a block of a table or figure is about."""
        return self.model, self.behavior

    @property
    def names(self) -> tuple[str, str, str]:
        """By NAMES."""
        return self.model, self.behavior, self.method

    @property
    def reached(self) -> bool:
        """Whether anything is measured."""
        return self.outcome.measured

    @property
    def has_dose(self) -> bool:
        """Whether there was anything to calibrate."""
        return self.outcome != Outcome.NO_DOSE


def finished_runs(store: Store, filters: Mapping[str, Sequence[str]]) -> list[Run]:
    """Every finished run that the filters let through, by names, dimensions and seed.

    Args:
        store: where the runs are.
        filters: by model, method, behavior, protocol and seed the values to keep; none means all.

    Raises:
        IsoklError: when no run is finished, a value is unknown, or none is left.
    """
    rows = store.rows(
        "SELECT r.attempt_id, r.sign, r.model, r.behavior, r.method, r.protocol, r.seed, r.stat, r.target, r.outcome, "
        "r.coefficient, r.low, r.high, r.value, r.slope, r.pool, r.n_prompts, r.seconds, c.config "
        "FROM results r JOIN configs c ON c.hash = r.hash"
    )
    if not rows:
        raise IsoklError(
            f"no finished run in {store.name}: run `isokl run --method pca --model tiny-qwen` first"
        )
    for name, values in filters.items():
        if values:
            rows = _keep(rows, name, [str(value) for value in values])
    return sorted(map(_run, rows), key=lambda run: (run.names, run.dimensions, run.other, run.seed or 0))


def differing(runs: Iterable[Run]) -> list[str]:
    """Keys of `other` in which runs differ that agree in everything else that is shown."""
    groups: dict[tuple[Any, ...], set[str]] = {}
    for run in runs:
        groups.setdefault((run.names, run.dimensions), set()).add(run.other)
    found: set[str] = set()
    for others in groups.values():
        if len(others) > 1:
            configs = [json.loads(other) for other in others]
            keys = {key for config in configs for key in config}
            found |= {key for key in keys if len({json.dumps(c.get(key)) for c in configs}) > 1}
    return sorted(found)


def selecting(runs: Sequence[Run]) -> str:
    """The SQL condition for what is stored of these runs, which agree in their sign."""
    attempts = ", ".join(str(run.attempt) for run in runs)
    return f"attempt_id IN ({attempts}) AND sign = {runs[0].sign}"


def _keep(rows: list[dict[str, Any]], name: str, values: Sequence[str]) -> list[dict[str, Any]]:
    known = {_text(row[name]) for row in rows}
    for value in values:
        if value not in known:
            raise IsoklError(unknown(f"{name} among the finished runs selected", value, known))
    return [row for row in rows if _text(row[name]) in values]


def _run(row: Mapping[str, Any]) -> Run:
    config = row["config"] if isinstance(row["config"], dict) else json.loads(row["config"])
    prompts = config.pop("prompts", {})
    other = {key: value for key, value in config.items() if key not in _COLUMNS}
    other["prompts"] = [len(texts) for texts in prompts.values()]  # which ones they are follows from the seed
    return Run(
        attempt=row["attempt_id"],
        sign=row["sign"],
        seed=row["seed"],
        model=_text(row["model"]),
        behavior=_text(row["behavior"]),
        method=_text(row["method"]),
        dimensions=Dimensions(
            sign="+" if row["sign"] > 0 else "−",
            protocol=_text(row["protocol"]),
            budget=f"{row['stat']} = {row['target']:g}",
            layers=",".join(map(str, config.get("layers", []))) or NOTHING,
            window=_text(config.get("window")),
        ),
        other=json.dumps(other, sort_keys=True),
        stat=row["stat"],
        target=row["target"],
        window=config.get("window"),
        outcome=Outcome(row["outcome"]),
        coefficient=(row["coefficient"], row["low"], row["high"]),
        value=row["value"],
        slope=row["slope"],
        pool=row["pool"],
        n=row["n_prompts"],
        seconds=row["seconds"],
    )


def _text(value: Any) -> str:
    return NOTHING if value is None else str(value)
