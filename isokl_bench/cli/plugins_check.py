"""`isokl plugins check`: the laws of the contract, run against one plugin."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from isokl_bench.cli.plugins_table import NAME, PALE, PLAIN, Style, print_rows
from isokl_registry import load_registry

if TYPE_CHECKING:
    from isokl_registry.conformance import Subject, Verdict

OUTCOMES: dict[str, Style] = {
    "passed": {"fg": "green"},
    "failed": {"fg": "red", "bold": True},
    "skipped": {"dim": True},
}


@click.command()
@click.argument("name")
@click.option("--load", is_flag=True, help="Load the weights too, if NAME is a model.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the tables.")
@click.pass_context
def check(ctx: click.Context, name: str, load: bool, as_json: bool) -> None:
    """Run the laws of the contract against the plugin NAME, or NAME[key=value] with its parameters.

    Each law passes, fails, or is skipped where it does not apply, with the reason; they run on small made-up
    data, in seconds. The exit code is 1 when one fails.
    """
    from isokl_registry.conformance import find

    judged = [(subject, _judge(subject, load)) for subject in find(name, load_registry())]
    if as_json:
        found = {"checks": [_as_dict(*one) for one in judged]}
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for subject, verdicts in judged:
            _print(subject, verdicts)
    ctx.exit(any(verdict.outcome == "failed" for _, verdicts in judged for verdict in verdicts))


def _judge(subject: Subject, load: bool) -> list[Verdict]:
    from isokl_registry.conformance import Verdict

    return [
        Verdict(law, "skipped", "it loads the weights: add --load")
        if law.asked and not load
        else law.judge(subject.plugin)
        for law in subject.laws
    ]


def _as_dict(subject: Subject, verdicts: list[Verdict]) -> dict[str, Any]:
    return {
        "kind": subject.kind,
        "name": subject.label,
        **dataclasses.asdict(subject.source),
        "laws": [
            {"law": v.law.name, "text": v.law.text, "outcome": v.outcome, "reason": v.reason}
            for v in verdicts
        ],
    }


def _print(subject: Subject, verdicts: list[Verdict]) -> None:
    """A table of one plugin's laws, and how many there are of each outcome."""
    head = click.style(f"{subject.kind} ", bold=True) + click.style(subject.label, bold=True, **NAME)
    click.echo(f"{head}  {click.style(str(subject.source), **PALE)}")
    told = {"passed": "{law.text}", "failed": "{law.text} But {reason}", "skipped": "{reason}"}
    rows = [
        (
            (v.law.name, v.outcome, told[v.outcome].format(law=v.law, reason=v.reason)),
            (PLAIN, OUTCOMES[v.outcome], PLAIN),
        )
        for v in verdicts
    ]
    print_rows(rows)
    counts = {outcome: sum(v.outcome == outcome for v in verdicts) for outcome in OUTCOMES}
    click.echo(", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count))
