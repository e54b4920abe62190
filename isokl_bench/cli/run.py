"""`isokl run`: one steering, from prompts to stored numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from isokl_bench.cli.options import Command, db_option
from isokl_bench.pipeline.config import ALPHAS, DEFAULTS, DTYPES, METRICS, POSITIONS, PROTOCOLS, RunConfig


def option(flag: str, help: str, **settings: Any) -> Callable[[Command], Command]:
    """An option whose default is RunConfig's, shown in the help."""
    name = flag.lstrip("-").replace("-", "_")
    default = DEFAULTS.get(name)
    if default is not None and not settings.get("is_flag"):
        settings |= {"default": default, "show_default": True}
    return click.option(flag, help=help, **settings)


def alphas(ctx: click.Context, param: click.Parameter, value: str) -> tuple[float, ...]:
    """`0,0.5,1` as numbers."""
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter("write numbers with commas between them, as in 0.5,1,2") from None


@click.command()
@click.option(
    "--method", required=True, metavar="NAME", help="Steering method, as NAME or 'NAME[key=value,…]'."
)
@click.option(
    "--model", required=True, metavar="NAME", help="Model: a name, a hub id, a folder or a GGUF file."
)
@option("--revision", "Branch, tag or commit of a model from the hub.", metavar="REF")
@option("--behavior", "Behavior: a name or a TOML file.", metavar="NAME")
@option("--layers", "Blocks to steer: 60%, 3, 3,5, 2-5, 30%-60%, all, -1.", metavar="SET")
@option("--stat", "What calibration drives to its target.", metavar="NAME")
@click.option("--target", type=float, help="Budget in the stat's unit.  [default: the stat's own]")
@option("--tolerance", "How close to the target is close enough.", type=float)
@option(
    "--protocol",
    "stable: 32 calibration and holdout prompts; published: 4.",
    type=click.Choice(list(PROTOCOLS)),
)
@option("--window", "Tokens per calibration rollout.", type=click.IntRange(1))
@option("--seed", "Seed of the prompt sets, the sampling and the bootstrap.", type=int)
@option(
    "--position",
    "Where contrast pairs are read: before the answer word, or at the end of the prompt.",
    type=click.Choice(POSITIONS),
)
@option("--fit-prompts", "Contrast pairs to fit on.", type=int)
@click.option("--calibration-prompts", type=int, help="Overrides the protocol's number.")
@click.option("--holdout-prompts", type=int, help="Overrides the protocol's number.")
@click.option(
    "--alphas", callback=alphas, default=",".join(f"{a:g}" for a in ALPHAS), show_default=True, metavar="LIST",
    help="Multiples of the calibrated dose to measure at.",
)  # fmt: skip
@click.option(
    "--metric", "metrics", multiple=True, default=METRICS, metavar="NAME", show_default="all built-in",
    help="Metric to measure (repeatable).",
)  # fmt: skip
@click.option("--bidirectional", is_flag=True, help="Calibrate and measure both signs.")
@option("--dtype", "Weights and activations.", type=click.Choice(DTYPES))
@option("--device", "auto, cpu, cuda, cuda:1 …", metavar="NAME")
@click.option("--chat-template", metavar="FILE", help="A Jinja file, or 'plain' for User:/Assistant: lines.")
@db_option
@click.option("--force", is_flag=True, help="Make a new attempt even if this run is stored.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line: progress, then the result.")
def run(db: str, force: bool, quiet: bool, as_json: bool, **options: Any) -> None:
    """Fit a steering, calibrate it to the budget, validate it on other prompts, and measure it.

    A run that is stored already is answered from the store; an interrupted one is picked up where it stopped.
    """
    from isokl_bench.api import run_config
    from isokl_bench.cli.progress import show
    from isokl_bench.cli.summary import print_summary
    from isokl_registry import load_registry

    for failure in load_registry().failures:
        click.echo(f"warning: {failure}", err=True)
    config = RunConfig(**options)
    with show(quiet=quiet, as_json=as_json) as listen:
        record = run_config(config, db=db, force=force, listen=listen)
    if not quiet:
        print_summary(record, db=db, as_json=as_json)
