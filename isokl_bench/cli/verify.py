"""`isokl verify`: the claims, judged from the results database alone."""

from __future__ import annotations

import json
import sys

import click

from isokl_bench.cli.options import db_option, filter_options
from isokl_bench.pipeline.config import PROTOCOLS


@click.command()
@db_option
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="stable",
    show_default=True,
    help="Judge the runs of this protocol.",
)
@filter_options("model", "method", "behavior")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every number instead.")
@click.pass_context
def verify(ctx: click.Context, /, db: str, protocol: str, as_json: bool, **filters: tuple[str, ...]) -> None:
    """Judge the claims R1 to R6 from what is stored.

    Each claim holds, fails, or has too few runs to tell, and is followed by the numbers that decided it. Only
    runs with the budget kl_p95 = 1 count. The exit code is 0 if all six hold, else 1.
    """
    from isokl_bench.claims.evidence import read_evidence
    from isokl_bench.claims.judge import as_dict, judge
    from isokl_db import Store

    with Store(db, read_only=True) as store:
        evidence = read_evidence(store, protocol, filters)
        claims = judge(evidence)
    if as_json:
        click.echo(json.dumps(as_dict(evidence, claims), ensure_ascii=False, allow_nan=False))
    else:
        from rich.console import Console

        from isokl_bench.claims.terminal import print_claims

        console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)
        print_claims(evidence, claims, console)
    ctx.exit(0 if all(claim.answer for claim in claims) else 1)
