"""What the claims are judged from: the runs of the budget, the configs that only failed, and their stored numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from isokl_bench.results.declared import is_control
from isokl_bench.results.runs import NAMES, Run, differing, finished_runs
from isokl_bench.results.table import TableRow, read_rows
from isokl_bench.results.wording import NOTHING, short
from isokl_db import INTERRUPTED
from isokl_registry import IsoklError, unknown

if TYPE_CHECKING:
    from isokl_db import Store

BUDGET = ("kl_p95", 1.0)  # what the claims are about: the stat, and its target in nats
Key = dict[str, Any]

_WITHOUT_RESULT = """
    SELECT c.config, a.state, a.error FROM configs c JOIN attempts a ON a.config_hash = c.hash
    WHERE a.id IN (SELECT MAX(id) FROM attempts GROUP BY config_hash) AND c.hash NOT IN (SELECT hash FROM latest)
"""
_HOLDOUT = """
    SELECT s.attempt_id, s.sign, s.mean FROM latest l CROSS JOIN summaries s WHERE s.attempt_id = l.attempt_id
    AND s.metric = 'validation' AND s.quantity = 'holdout' AND s.alpha = 1 AND s.mean IS NOT NULL
"""


@dataclass(frozen=True)
class Subject:
    """A finished run, or a config that has none: with the error that it failed with, or None if it has not ended.

    key: model, behavior, method, sign, layers, window, seed, and what else tells it from the other runs. has_dose: False
    for prompts, of which the claims say nothing."""

    key: Key
    protocol: str
    budget: tuple[str, float]
    run: Run | None = None
    error: str | None = None
    has_dose: bool = True

    @property
    def is_judged(self) -> bool:
        """The claims are about methods with a dose, and not about the control."""
        return self.has_dose and not is_control(self.key["method"])

    @property
    def ended(self) -> bool:
        """Whether there is something to judge."""
        return self.run is not None or self.error is not None


@dataclass
class Evidence:
    """What a store says about the selected subjects, judged for one protocol."""

    store: Store
    protocol: str
    selected: Sequence[Subject]

    @cached_property
    def of_budget(self) -> list[Subject]:
        """The subjects that the claims are about, of every protocol."""
        return [
            subject
            for subject in self.selected
            if subject.is_judged and subject.ended and subject.budget == BUDGET
        ]

    @cached_property
    def subjects(self) -> list[Subject]:
        """Those of the protocol."""
        return [subject for subject in self.of_budget if subject.protocol == self.protocol]

    @property
    def left_out(self) -> dict[str, int]:
        """How many of the protocol are not judged, and why."""
        of_protocol = [subject for subject in self.selected if subject.protocol == self.protocol]
        ours = [subject for subject in of_protocol if subject.is_judged]
        return {
            "steered by a prompt": sum(not subject.has_dose for subject in of_protocol),
            "steered by the control": sum(
                subject.has_dose and not subject.is_judged for subject in of_protocol
            ),
            "of another budget": sum(subject.ended and subject.budget != BUDGET for subject in ours),
            "not finished": sum(not subject.ended for subject in ours),
        }

    @cached_property
    def rows(self) -> list[tuple[Key, TableRow | None, str]]:
        """The rows of Table 1, their keys without a seed; a config that failed and has no row stands as its error."""
        runs = {(s.run.attempt, s.run.sign): s for s in self.subjects if s.run}
        found: list[tuple[Key, TableRow | None, str]] = []
        for row in read_rows(self.store, [s.run for s in runs.values() if s.run])[0] if runs else ():
            subject = runs[row.first.attempt, row.first.sign]
            found.append((without(subject.key, "seed"), row, ""))
        for subject in self.subjects:
            key = without(subject.key, "seed")
            if subject.error is not None and not any(key.items() <= known.items() for known, *_ in found):
                found.append((key, None, subject.error))
        return found

    def holdout(self, subject: Subject) -> float | None:
        """The budget's stat on the holdout prompts, None where it is not stored."""
        return self._holdout.get((subject.run.attempt, subject.run.sign)) if subject.run else None

    @cached_property
    def _holdout(self) -> dict[tuple[int, int], float]:
        return {(attempt, sign): mean for attempt, sign, mean in self.store.query(_HOLDOUT).rows}


def read_evidence(store: Store, protocol: str, filters: Mapping[str, Sequence[str]]) -> Evidence:
    """What is stored about the runs that the filters let through: by model, method or behavior, the values to keep.

    Raises IsoklError when a filter names a value that no run has."""
    runs = finished_runs(store, {}) if store.query("SELECT 1 FROM results LIMIT 1").rows else []
    extra = differing(runs)
    subjects = [_finished(run, extra) for run in runs] + list(
        map(_without_result, store.rows(_WITHOUT_RESULT))
    )
    for name, values in filters.items():
        known = {subject.key[name] for subject in subjects}
        for value in values:
            if value not in known:
                raise IsoklError(unknown(f"{name} among the runs selected", value, known))
        subjects = [subject for subject in subjects if not values or subject.key[name] in values]
    return Evidence(store, protocol, subjects)


def without(key: Key, *names: str) -> Key:
    """The key less these dimensions."""
    return {name: value for name, value in key.items() if name not in names}


def _finished(run: Run, extra: Sequence[str]) -> Subject:
    known = run.dimensions._asdict()
    key: Key = dict(zip(NAMES, run.names, strict=True)) | {"sign": known["sign"], "layers": known["layers"]}
    key |= {"window": run.window, "seed": run.seed}
    if extra:
        config = json.loads(run.other)
        key |= {name: short(config.get(name)) for name in extra}
    return Subject(key, known["protocol"], (run.stat, run.target), run, has_dose=run.has_dose)


def _without_result(row: Mapping[str, Any]) -> Subject:
    """Both signs of a config fail as one."""
    config = row["config"] if isinstance(row["config"], dict) else json.loads(row["config"])
    key: Key = {name: config.get(name) or NOTHING for name in NAMES} | {"sign": "+"}
    key["layers"] = ",".join(map(str, config.get("layers", []))) or NOTHING
    key |= {name: config.get(name) for name in ("window", "seed")}
    failed = row["state"] == "failed" and row["error"] != INTERRUPTED
    budget = (config.get("stat", NOTHING), config.get("target", 0.0))
    error = row["error"] or "failed" if failed else None
    has_dose = config.get("layers") != []
    return Subject(key, config.get("protocol", NOTHING), budget, error=error, has_dose=has_dose)
