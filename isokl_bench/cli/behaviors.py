"""`isokl behaviors check`: can this behavior be measured on that model?"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from isokl_bench.pipeline.config import DTYPES
from isokl_bench.results.wording import NOTHING

if TYPE_CHECKING:
    from isokl_bench.pipeline.behavior_check import BehaviorCheck


@click.group()
def behaviors() -> None:
    """Check behaviors before they are measured."""


@behaviors.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--model", required=True, metavar="NAME", help="As for `isokl run`.")
@click.option(
    "--prompts", default=32, show_default=True, type=click.IntRange(2), help="How many prompts to ask."
)
@click.option(
    "--window", default=50, show_default=True, type=click.IntRange(5), help="Tokens that a reply may have."
)
@click.option("--seed", default=0, show_default=True, help="Which prompts are asked.")
@click.option("--dtype", default="float32", show_default=True, type=click.Choice(DTYPES))
@click.option("--device", default="auto", show_default=True, metavar="NAME")
@click.option("--chat-template", metavar="FILE", help="A Jinja file, or 'plain' for User:/Assistant: lines.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
@click.pass_context
def check(ctx: click.Context, /, names: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Ask the unsteered model the prompts of a behavior (NAME or FILE.toml; by default, all that are
    registered).

    Are replies long enough for a calibration? Does the model answer wherever it is interrupted? Do its answers
    fall on both sides, and do the personas move them? The exit code is 1 if either of the first two fails.
    """
    found = _checked(names, **options)
    if as_json:
        click.echo(json.dumps({name: _as_dict(one) for name, one in found.items()}, indent=2))
    else:
        _print(found, options["model"])
    ctx.exit(any(any(one.problems()) for one in found.values()))


def _checked(
    names: tuple[str, ...],
    *,
    model: str,
    prompts: int,
    window: int,
    seed: int,
    dtype: str,
    device: str,
    chat_template: str | None,
) -> dict[str, BehaviorCheck]:
    import torch

    from isokl_bench.engine.lm import LanguageModel
    from isokl_bench.pipeline.behavior_check import check_behavior
    from isokl_bench.pipeline.device import pick_device
    from isokl_registry import load_registry

    registry = load_registry()
    plugin = registry.model(model)
    sets = {
        name: registry.behavior(name).load(plugin.prompt_set)
        for name in names or registry.entries["behavior"]
    }
    weights: torch.dtype = getattr(torch, dtype)
    for note in plugin.notes(dtype=weights):
        click.echo(note, err=True)
    lm = LanguageModel(plugin.load(device=pick_device(device), dtype=weights), chat_template)
    return {
        name: check_behavior(
            lm,
            found,
            random.Random(seed).sample(found.prompts, min(prompts, len(found.prompts))),
            range(0, window + 1, 5),
        )
        for name, found in sets.items()
    }


def _as_dict(found: BehaviorCheck) -> dict[str, Any]:
    personas = found.personas
    return {
        "n": found.n,
        "pool": found.pool,
        "possible": found.possible,
        "forks": list(found.points),
        "mass": [None if math.isnan(mass) else mass for mass in found.mass.tolist()],
        "reached": found.reached.tolist(),
        "first": {"start": found.first[0], "end": found.first[1]},
        "positive": {"start": found.positive[0], "end": found.positive[1]},
        "personas": personas and {"mean": personas.mean, "low": personas.low, "high": personas.high},
        "problems": list(found.problems()),
    }


TITLES = ("behavior", "pool", "mass", "reach", "first word", "positive", "personas move it by")


def _print(found: Mapping[str, BehaviorCheck], model: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for title in TITLES:
        named = title == "behavior"  # perhaps by a long path, which must not push the numbers out
        table.add_column(title, justify="left" if named else "right", no_wrap=not named, overflow="fold")
    for name, one in found.items():
        table.add_row(name, *_cells(one))
    console.print(f"{model}, unsteered, {next(iter(found.values())).n} prompts a behavior", style="bold cyan")
    console.print(table)
    for name, one in found.items():
        for problem in one.problems():
            console.print(f"{name}: {problem}", style="yellow", markup=False)
    console.print(NOTE, style="dim")


NOTE = (
    "pool: tokens that a calibration would read, of those it could. mass: lowest probability of the answer "
    "words, over the forks at which the reply is cut and an answer forced. reach: replies that get to the last "
    "fork. first word, positive: prompts whose likelier answer is the first answer word, or the positive "
    "persona's, at the start of the reply → at its end. personas: change of the answer's log-ratio at the "
    "start, from the negative persona to the positive one, in nats, with its 95 % interval."
)


def _cells(one: BehaviorCheck) -> list[str]:
    import numpy as np

    from isokl_bench.cli.summary_table import interval

    personas = one.personas
    return [
        f"{one.pool / one.possible:.0%}",
        f"{np.nanmin(one.mass):.2f}",
        f"{one.reached[-1]}/{one.n}",
        _sides(one.first),
        _sides(one.positive),
        f"{personas.mean:+.2f} {interval(personas.low, personas.high, '{:+.2f}'.format)}"
        if personas
        else NOTHING,
    ]


def _sides(shares: tuple[float, float]) -> str:
    start, end = (round(100 * share) for share in shares)
    return f"{start}→{end}%"
