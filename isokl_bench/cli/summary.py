"""What a run ends with: the numbers at a glance, and the command to run next."""

from __future__ import annotations

import json
from typing import Any

import click

from isokl_bench.cli.summary_table import effect_sentence, interval, summary_table
from isokl_bench.pipeline.record import Record
from isokl_bench.results.declared import CHECKS, unit_of
from isokl_bench.results.wording import NOTHING, amount, significant
from isokl_db import Outcome


def print_summary(record: Record, *, db: str, as_json: bool) -> None:
    """One table per sign on stdout; with as_json one JSON object instead."""
    if as_json:
        click.echo(json.dumps(as_dict(record)))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(headline(record))
    for calibration in record.calibrations:
        console.print(_calibration_lines(record, calibration))
        measured = [
            s
            for s in record.data["summaries"]
            if s["metric"] not in CHECKS and s["sign"] == calibration["sign"] and s["position"] is None
        ]
        if measured:
            console.print(summary_table(measured))
            console.print(effect_sentence(measured, calibration["sign"]))
    where = "" if db == "isokl.db" else f" --db {db}"
    console.print(
        f"next: [bold]isokl report{where}[/] (Table 1, Figure 1), [bold]isokl report traces{where}[/] (texts)"
    )


def headline(record: Record) -> str:
    """What the run is, as rich markup, below an empty line."""
    from rich.markup import escape

    config = record.config
    blocks = f"block {','.join(map(str, config['layers']))} · " if config["layers"] else ""
    return (
        f"\n[bold]{escape(config['method'])}[/] on [bold]{escape(config['model'])}[/] · {escape(config['behavior'])} · "
        f"{blocks}run {record.hash[:12]} (attempt {record.attempt})"
    )


def as_dict(record: Record) -> dict[str, Any]:
    """The result as plain values: what --json prints."""
    summaries = [s for s in record.data["summaries"] if s["position"] is None]
    calibrations = [{k: v for k, v in c.items() if k != "evaluations"} for c in record.calibrations]
    head = {"event": "result", "hash": record.hash, "attempt": record.attempt, "cached": record.cached}
    return head | {"config": record.config, "calibrations": calibrations, "summaries": summaries}


def _calibration_lines(record: Record, found: dict[str, Any]) -> str:
    line = _prompt_line(found) if found["outcome"] == Outcome.NO_DOSE else _search_line(found)
    line += _pool_lines(record, found)
    sign = "" if len(record.calibrations) == 1 else f"sign {'+' if found['sign'] > 0 else '−'}  "
    checks = [
        s for s in record.data["summaries"] if s["metric"] == "validation" and s["sign"] == found["sign"]
    ]
    if checks:
        texts = [
            f"{s['quantity'].replace('_', ' ')} {amount(s['mean'])} {interval(s['low'], s['high'], amount)}".rstrip()
            for s in checks
        ]
        line += f"\n{found['stat']} elsewhere (n = {checks[0]['n']}): {', '.join(texts)}"
    return sign + line


def _prompt_line(found: dict[str, Any]) -> str:
    return (
        f"no dose: steered by a prompt, with {found['stat']} [bold]{found['value']:.3f}[/] on {found['n_prompts']} "
        f"prompts, where others have a budget of {_target(found)}"
    )


def _target(found: dict[str, Any]) -> str:
    return f"{found['target']:g} {unit_of(found['stat'])}".rstrip()


def _search_line(found: dict[str, Any]) -> str:
    stat, value = found["stat"], found["value"]
    ends = interval(found["low"], found["high"], significant)
    line = f"coefficient [bold]{found['coefficient']:.4g}[/] {ends}  {Outcome(found['outcome']).words}"
    line += f": {stat} {NOTHING if value is None else f'{value:.3f}'} for a target of {_target(found)}"
    line += f" on {found['n_prompts']} prompts, {found['rounds']} round(s)"
    if found["outcome"] == Outcome.JUMP and found["value_above"] is not None:
        line += f"; at {found['dose_above']:.4g} it is {found['value_above']:.3f}"
    return line


def _pool_lines(record: Record, found: dict[str, Any]) -> str:
    """How many tokens the stat saw and how steep it is, with a warning where replies ended so early that they are few."""
    pool, slope, whole = found.get("pool"), found.get("slope"), found["n_prompts"] * record.config["window"]
    parts = [] if pool is None else [f"pool {pool} of {whole} tokens"]
    parts += [] if slope is None else [f"slope {slope:.1f}: d log stat / d log dose"]
    line = f"\n{', '.join(parts)}" if parts else ""
    if pool is not None and 2 * pool < whole:
        line += (
            f"\n[yellow]warning: replies end early, {found['stat']} is one of {pool} tokens where {whole} were asked for: "
            "give prompts that ask for longer replies, or a shorter --window[/]"
        )
    return line
