"""The whole survival report: its table and both figures, read from the store, printed and written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isokl_bench.report.survival.table import SurvivalTable, markdown, plain_csv, print_survival
from isokl_bench.report.write import make_folder, write_file
from isokl_bench.results.declared import metrics_with
from isokl_bench.results.runs import finished_runs
from isokl_bench.results.survival_rollouts import read_series
from isokl_registry import IsoklError

if TYPE_CHECKING:
    from rich.console import Console

    from isokl_db import Store


def make_survival(
    store: Store,
    folder: Path,
    filters: Mapping[str, Sequence[str]],
    console: Console,
    *,
    threshold: float,
    normalize: bool,
) -> list[Path]:
    """Print the table, write it and the figures into the folder, and return what was written.

    threshold: the answer mass under which a rollout is dead. normalize: divide each KL trajectory by its
    early p95. Raises IsoklError when no finished run is selected or none has a metric that tells who is alive,
    for a threshold outside (0, 1), and when a file cannot be written; StoreError when the store fails."""
    if not 0 < threshold < 1:
        raise IsoklError(
            f"threshold {threshold:g} is not an answer mass that a reply can cross: give one between 0 and 1"
        )
    table = SurvivalTable(read_series(store, finished_runs(store, filters), threshold), threshold)
    print_survival(table, console)
    console.print()
    make_folder(folder)
    tables = {"survival.md": markdown(table), "survival.csv": plain_csv(table)}
    written = [write_file(folder / name, content) for name, content in tables.items()]
    return (
        written
        + _write_curves(table, folder, console)
        + _write_spaghetti(store, table, folder, console, normalize)
    )


def _write_curves(table: SurvivalTable, folder: Path, console: Console) -> list[Path]:
    from isokl_bench.report.figures.files import write_figure
    from isokl_bench.report.survival.figure import PANELS, survival_figure

    if len(table.series) > PANELS:
        console.print(
            f"The survival figure draws the first {PANELS} of {len(table.series)} rows; choose others with "
            "--model, --behavior, --method …"
        )
    return write_figure(folder, "survival", survival_figure(table), "Survival")


def _write_spaghetti(
    store: Store, table: SurvivalTable, folder: Path, console: Console, normalize: bool
) -> list[Path]:
    from isokl_bench.report.figures.files import write_figure
    from isokl_bench.report.survival.spaghetti import spaghetti_figure
    from isokl_bench.results.trajectories import read_spaghetti

    spaghetti = read_spaghetti(store, table.series, normalize)
    if spaghetti is None:
        nothing = " above 0" if normalize else ""
        options = " ".join(f"--metric {name}" for name in metrics_with(lambda curve: curve.is_shift))
        console.print(
            f"No spaghetti figure: no KL{nothing} of these rollouts is stored at alpha 1 or more; add {options} to the run, "
            "with a window as long."
        )
    elif spaghetti.left_out:
        console.print(spaghetti.left_out)
    specification = spaghetti_figure(table, spaghetti) if spaghetti else None
    return write_figure(folder, "spaghetti", specification, "KL trajectories")
