"""What a run ends with: the numbers at a glance, and the command to run next."""

from __future__ import annotations

import json
from typing import Any

import click

from isokl_bench.phases import NO_DOSE
from isokl_bench.record import Record

COLUMNS = (
    ("target_logit", "target_logit", "Δ target logit", "{:+.2f}"),
    ("target_logit", "final_log_ratio", "Δ final log-ratio", "{:+.1f}"),
    ("target_logit", "answer_flip", "flips", "{:.0%}"),
    ("base_nll", "nll_ratio", "NLL ratio", "{:.2f}"),
    ("branch_pmass", "pmass_change", "Δ pmass", "{:+.2f}"),
)
CHECKS = ("validation", "gap")  # of the budget, not measured at every alpha
NO_VALUE = "—"


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
        if any(
            s["metric"] not in CHECKS and s["sign"] == calibration["sign"] for s in record.data["summaries"]
        ):
            console.print(_table(record, calibration["sign"]))
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
    line = _prompt_line(found) if found["outcome"] == NO_DOSE else _search_line(found)
    sign = "" if len(record.calibrations) == 1 else f"sign {'+' if found['sign'] > 0 else '−'}  "
    checks = [
        s for s in record.data["summaries"] if s["metric"] == "validation" and s["sign"] == found["sign"]
    ]
    if checks:
        texts = [
            f"{s['quantity'].replace('_', ' ')} {s['mean']:.2f} [{s['low']:.2f}, {s['high']:.2f}]"
            for s in checks
        ]
        line += f"\n{found['stat']} elsewhere (n = {checks[0]['n']}): {', '.join(texts)}"
    return sign + line


def _prompt_line(found: dict[str, Any]) -> str:
    return (
        f"no dose: steered by a prompt, with {found['stat']} [bold]{found['value']:.3f}[/] on {found['n_prompts']} "
        f"prompts, where others have a budget of {found['target']:g} nat"
    )


def _search_line(found: dict[str, Any]) -> str:
    stat, value = found["stat"], found["value"]
    ends = [NO_VALUE if found[end] is None else f"{found[end]:.3g}" for end in ("low", "high")]
    interval = "" if ends == [NO_VALUE] * 2 else f" [{', '.join(ends)}]"
    line = f"coefficient [bold]{found['coefficient']:.4g}[/]{interval}  {found['outcome'].replace('_', ' ')}"
    line += (
        f": {stat} {NO_VALUE if value is None else f'{value:.3f}'} for a target of {found['target']:g} nat"
    )
    line += f" on {found['n_prompts']} prompts, {found['rounds']} round(s)"
    if found["outcome"] == "jump" and found["value_above"] is not None:
        line += f"; at {found['dose_above']:.4g} it is {found['value_above']:.3f}"
    return line


def _table(record: Record, sign: int) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    rows = {
        (s["metric"], s["quantity"], s["alpha"]): s
        for s in record.data["summaries"]
        if s["sign"] == sign and s["position"] is None
    }
    columns = [column for column in COLUMNS if any(key[:2] == column[:2] for key in rows)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("alpha", justify="right")
    for _, _, title, _ in columns:
        table.add_column(title, justify="right")
    for alpha in sorted(
        {key[2] for key in rows if key[0] not in CHECKS and key[2] > 0}
    ):  # at 0 nothing changes
        cells = [_cell(rows.get((metric, quantity, alpha)), form) for metric, quantity, _, form in columns]
        table.add_row(f"{alpha:g}", *cells)
    return table


def _cell(summary: dict[str, Any] | None, form: str) -> str:
    if summary is None or summary["mean"] is None:
        return NO_VALUE
    low, high = (form.replace("+", "").format(summary[key]) for key in ("low", "high"))
    return f"{form.format(summary['mean'])}\n[dim]\\[{low}, {high}][/]"
