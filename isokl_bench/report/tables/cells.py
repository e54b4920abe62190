"""Table 1 as words: what people read in each cell, whatever the format it is printed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from isokl_bench.results.control import MARK, NOTE
from isokl_bench.results.effect import EFFECT
from isokl_bench.results.runs import DIMENSIONS, NAMES, NOTHING
from isokl_bench.results.table import ALPHAS, Estimate, Row
from isokl_bench.results.table1 import Table1
from isokl_bench.results.wording import amount, bracket, change, number, significant
from isokl_db import Outcome

EFFECTS = ("log_ratio", "final_log_ratio", "target_logit")
BRACKETED = (
    "coefficient",
    "holdout",
    "log_ratio",
    "final_log_ratio",
)  # for the other intervals there is table1.csv
SIGNED = (*EFFECTS, "pmass_change")  # their zero is "nothing changed"


class Cell(NamedTuple):
    """A text, the interval that belongs to it, and whether that interval makes it worth marking."""

    text: str
    interval: str = ""
    marked: bool = False


@dataclass(frozen=True)
class Column:
    """A title, and the alpha it is measured at where there is one."""

    title: str
    key: str
    alpha: float | None = None


MEASURED = (
    Column("coefficient", "coefficient"),
    Column("outcome", "outcome"),
    Column("slope", "slope"),
    Column("calibration", "calibration"),
    Column("holdout", "holdout"),
    Column("sampled", "holdout_sampled"),
    *(
        Column(title, f"{key}_alpha{alpha:g}", alpha)
        for alpha in ALPHAS
        for title, key in (
            ("Δ log-ratio (nats)", "log_ratio"),
            ("Δ final log-ratio (nats)", "final_log_ratio"),
            ("Δ target logit", "target_logit"),
            ("NLL ratio", "nll_ratio"),
            ("Δ pmass", "pmass_change"),
        )
    ),
    Column("n", "n"),
    Column("seeds", "seeds"),
)

_STAT_NOTE = (
    "calibration, holdout, sampled: the budget's stat at alpha 1 (KL and NLL in nats) on the calibration prompts, on the "
    "holdout prompts, and on those sampled at temperature 1. slope: d log stat / d log dose at the target."
)
_METRICS_NOTE = (
    "Changes against the model without steering (alpha 0), positive towards the behavior's positive side. log-ratio: "
    "log p(target answer) − log p(other), forced at the start of the reply, and (final) after it; target logit: of the "
    "target answer alone, at the start: it falls when both answers do. NLL ratio: base-model surprise at the steered "
    "text over that at its own; pmass: probability of the two answers together, mean over the forks."
)
_MARKS_NOTE = (
    f"Marked (bold, or *): changes whose interval excludes 0. {NOTHING}: nothing is stored, which is not 0."
)
_NO_DOSE_NOTE = "no dose: steered by a prompt, which cannot be calibrated; its KL is as measured, and there is no alpha but 1."
_JUMP_NOTE = "jump: the stat steps over its target; the coefficient is the largest dose at or under it."


@dataclass
class Cells:
    """Table 1 ready to print."""

    table: Table1

    @cached_property
    def columns(self) -> list[Column]:
        """Names, the varying dimensions, and what was measured."""
        return [*(Column(name, name) for name in (*NAMES, *self.table.varying)), *MEASURED]

    @cached_property
    def cells(self) -> list[dict[str, Cell]]:
        """For each row its cells by the keys of `columns`."""
        return [self._cells(row) for row in self.table.rows]

    def _cells(self, row: Row) -> dict[str, Cell]:
        named = dict(zip(NAMES, row.first.names, strict=True)) | self.table.dimensions(row.first)
        cells = {key: Cell(text) for key, text in named.items()} | {
            column.key: _measured(row, column.key) for column in MEASURED
        }
        if self.table.is_weak(row):
            cells[EFFECT] = cells[EFFECT]._replace(text=cells[EFFECT].text + MARK)
        return cells

    @cached_property
    def notes(self) -> list[str]:
        """What a reader must know to read the numbers right."""
        stats = sorted({row.first.dimensions[DIMENSIONS.index("budget")] for row in self.table.rows})
        notes = [
            f"Budget: {'; '.join(stats)}. {_STAT_NOTE}",
            _about_intervals(self.table.rows),
            _METRICS_NOTE,
            _MARKS_NOTE,
        ]
        if any(run.outcome == Outcome.JUMP for row in self.table.rows for run in row.runs):
            notes.append(_JUMP_NOTE)
        if any(map(self.table.is_weak, self.table.rows)):
            notes.append(NOTE)
        if not all(run.has_dose for row in self.table.rows for run in row.runs):
            notes.append(_NO_DOSE_NOTE)
        return notes


def outcome(row: Row) -> str:
    """The outcome in words; with several seeds, how many of them had it."""
    shown = [(name.replace("_", " "), count) for name, count in row.outcomes]
    if len(shown) == 1:
        return shown[0][0]
    return ", ".join(f"{name} {count}/{len(row.runs)}" for name, count in shown)


def _measured(row: Row, key: str) -> Cell:
    if key == "outcome":
        return Cell(outcome(row))
    if key == "n":
        return Cell(_prompts(row))
    if key == "seeds":
        reached, total = len(row.reached), len(row.runs)
        return Cell(str(total) if reached in (0, total) else f"{reached}/{total}")
    estimate = row.estimates.get(key)
    if estimate is None:
        return Cell(NOTHING)
    return Cell(number(estimate.mean, 1)) if key == "slope" else _estimate(estimate, key)


def _estimate(estimate: Estimate, key: str) -> Cell:
    signed = key.startswith(SIGNED)
    write = significant if key == "coefficient" else change if signed else amount
    bracketed = key.startswith(BRACKETED) and key != "holdout_sampled"
    interval = bracket(estimate.low, estimate.high, write) if bracketed else ""
    return Cell(write(estimate.mean), interval, signed and estimate.excludes_zero)


def _prompts(row: Row) -> str:
    both = [str(n) for n in (row.first.n, row.holdout) if n is not None]
    return "/".join(dict.fromkeys(both))


def _about_intervals(rows: Sequence[Row]) -> str:
    several = [len(row.runs) > 1 for row in rows]
    prompts, seeds = (
        "95 % intervals over prompts",
        "95 % intervals of the mean over seeds",
    )
    kinds = (
        prompts if not any(several) else seeds if all(several) else f"{prompts}; with several seeds, {seeds}"
    )
    n = "n: prompts per seed, as calibration/holdout where these differ"
    return f"In brackets: {kinds}; those not shown are in table1.csv. {n}; seeds: runs, as reached/all."
