"""`isokl sweep`: a grid of runs in parallel, of which only what is missing is computed."""

from __future__ import annotations

import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from isokl_bench.cli.options import Command, db_option
from isokl_bench.cli.run import alphas
from isokl_bench.pipeline.config import DTYPES, POSITIONS, PROTOCOLS

AXES: dict[str, tuple[str, Any, str | None]] = {
    "model": ("Model: a name, a hub id, a folder or a GGUF file.", str, "NAME"),
    "method": ("Steering method, as NAME or 'NAME[key=value,…]'.", str, "NAME"),
    "behavior": ("Behavior: a name or a TOML file.", str, "NAME"),
    "seed": ("Seed of the prompt sets, the sampling and the bootstrap.", int, "N"),
    "window": ("Tokens per calibration rollout.", click.IntRange(1), "N"),
    "layers": ("Blocks to steer.", str, "SET"),
    "stat": ("What calibration drives to its target.", str, "NAME"),
    "target": ("Budget in the stat's unit.", float, "VALUE"),
    "protocol": ("Number of prompts.", click.Choice(list(PROTOCOLS)), None),
    "dtype": ("Weights and activations.", click.Choice(DTYPES), None),
}


def axis_options(command: Command) -> Command:
    """One option for each axis of a grid; each may be given several times."""
    for name, (help, kind, metavar) in reversed(AXES.items()):
        command = click.option(f"--{name}", multiple=True, type=kind, metavar=metavar, help=help)(command)
    return command


@click.command()
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--preset", metavar="NAME", help="A built-in grid: paper, paper-published, leaderboard, tiny.")
@axis_options
@click.option("--position", type=click.Choice(POSITIONS), help="Where contrast pairs are read.")
@click.option("--revision", metavar="REF", help="Branch, tag or commit of the models from the hub.")
@click.option("--calibration-prompts", type=int, metavar="N", help="Overrides the protocol's number.")
@click.option("--holdout-prompts", type=int, metavar="N", help="Overrides the protocol's number.")
@click.option("--alphas", callback=lambda *a: None if a[2] is None else alphas(*a), metavar="LIST",
              help="Multiples of the calibrated dose to measure at, as 0,0.5,1.")  # fmt: skip
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Metric to measure (repeatable).")
@click.option("--bidirectional/--no-bidirectional", default=None, help="Calibrate and measure both signs.")
@click.option("--device", metavar="NAME", help="auto (one GPU to each worker), cpu, cuda:1 …")
@click.option("--jobs", "-j", type=click.IntRange(1), default=1, show_default=True, help="Worker processes.")
@click.option("--timeout-cell", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="End a cell that takes longer, and store it as failed.")  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="Run failed cells again.")
@click.option("--take-over", is_flag=True, help="Also run cells that another process is marked as running.")
@click.option("--dry-run", is_flag=True, help="Print what would be run, and run nothing.")
@db_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per finished cell, then a summary.")
def sweep(
    file: Path | None,
    preset: str | None,
    jobs: int,
    timeout_cell: float | None,
    retry_failed: bool,
    take_over: bool,
    dry_run: bool,
    db: str,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Run every combination of the given models, methods, seeds …: from a preset, from a TOML FILE, or from options,
    which may be repeated and replace what the preset or the file says.

    Keys of the file are the long names of the options of `isokl run` (with _ for -; alphas and metric are lists). Cells
    that are stored already are not run again; a cell that fails is stored with its error, and the others still run.
    """
    from isokl_bench.cli.sweep_plan import print_plan
    from isokl_bench.cli.sweep_progress import show_sweep
    from isokl_bench.sweep.grid import cells, read_file, read_preset
    from isokl_bench.sweep.plan import estimate, plan_cells, to_run
    from isokl_bench.sweep.run import run_cells
    from isokl_db import Store
    from isokl_registry import load_registry

    registry = load_registry()
    for failure in registry.failures:
        click.echo(f"warning: {failure}", err=True)
    given = {name: value for name, value in options.items() if value not in (None, ())}
    configs = cells(read_preset(preset) if preset else {}, read_file(file) if file else {}, given)
    path = db.removeprefix("sqlite:///")
    nothing_yet = dry_run and "://" not in path and not Path(path).expanduser().exists()
    with nullcontext() if nothing_yet else Store(db, read_only=dry_run) as store:
        planned = plan_cells(configs, store, registry)
        todo = to_run(planned, retry_failed)
        seconds = estimate(todo, store, jobs)
    if dry_run:
        print_plan(planned, todo, seconds, as_json=as_json)
        return 0
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a cluster's way of saying Ctrl-C
    with show_sweep(planned, todo, jobs, seconds, db=db, quiet=quiet, as_json=as_json) as screen:
        for cell, result in run_cells(
            todo, db, jobs=jobs, timeout=timeout_cell, exclusive=not take_over, tell=screen.tell
        ):
            screen.ended(cell, result)
    return screen.exit_code
