"""`isokl gap`: where the gap between calibration and evaluation comes from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from isokl_bench.cli.options import db_option
from isokl_bench.results.wording import NOTHING

if TYPE_CHECKING:
    from rich.table import Table

    from isokl_bench.pipeline.record import Record


@click.command()
@click.argument("run")
@click.option("--model", metavar="FOLDER", help="The model again, where the run was given a folder.")
@click.option("--behavior", metavar="FILE", help="The behavior again, where the run was given a TOML file.")
@click.option("--chat-template", metavar="FILE", help="The template again, where the run was given a file.")
@click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:1 …")
@db_option
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of the table.")
def gap(run: str, quiet: bool, as_json: bool, **options: Any) -> None:
    """Measure where the gap between calibration and evaluation comes from, one source at a time.

    RUN is an attempt id or the start of a config hash, of a finished run. Every row is the calibrated stat with one thing
    changed against the first row, which is the calibration itself. The rows are stored with the run, and the next time
    they come from the store.
    """
    from isokl_bench.cli.progress import show
    from isokl_bench.generalization.gap import gap_record

    with show(quiet=quiet or as_json, as_json=False) as listen:
        record = gap_record(run, listen=listen, **options)
    if not quiet:
        _print(record, as_json)


def _print(record: Record, as_json: bool) -> None:
    from isokl_bench.generalization.gap import gap_rows

    rows, config = gap_rows(record), record.config
    signs = {
        sign: record.calibration(sign)["coefficient"]
        for sign in sorted({r["sign"] for r in rows}, reverse=True)
    }
    if as_json:
        head = {"hash": record.hash, "attempt": record.attempt, "cached": record.cached}
        head |= {"stat": config["stat"], "target": config["target"]}
        coefficients = {f"{sign:+d}": coefficient for sign, coefficient in signs.items()}
        click.echo(json.dumps(head | {"coefficients": coefficients, "rows": rows}))
        return
    from rich.console import Console
    from rich.markup import escape

    from isokl_bench.cli.summary import headline
    from isokl_bench.results.declared import unit_of

    console = Console(highlight=False)
    console.print(headline(record))
    for sign, coefficient in signs.items():
        budget = f"{config['target']:g} {escape(unit_of(config['stat']))}".rstrip()
        console.print(
            f"{escape(config['stat'])} at coefficient [bold]{coefficient:.4g}[/], calibrated to {budget}"
        )
        console.print(_table([row for row in rows if row["sign"] == sign], config["stat"]))


def _table(rows: list[dict[str, Any]], stat: str) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("source", no_wrap=True)
    table.add_column("what is changed")
    for title in (escape(stat), "× target", "n × tokens"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        name, size = row["source"].replace("_", " "), f"{row['n']} × {row['tokens']}"
        if row["value"] is None:
            table.add_row(
                name, f"{row['changed']}; unscored: {escape(row['reason'])}", NOTHING, NOTHING, size
            )
        else:
            table.add_row(name, row["changed"], _value(row), f"{row['ratio']:.2f}", size)
    return table


def _value(row: dict[str, Any]) -> str:
    from isokl_bench.cli.summary_table import interval

    ends = interval(row["low"], row["high"], "{:.2f}".format) or NOTHING  # not rich's markup
    return f"{row['value']:.2f} [dim]{ends}[/]"
