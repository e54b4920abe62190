"""`isokl plugins`: what there is, where it comes from, and what was left out and why."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from typing import Any

import click

from isokl_bench.cli.plugins_check import check
from isokl_bench.cli.plugins_new import new
from isokl_bench.cli.plugins_table import NAME, PALE, PLAIN, print_table
from isokl_registry import Entry, IsoklError, Registry, load_registry, unknown

FACTS = ("prompt_set", "path", "operation", "linears", "target", "unit", "version")


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List the plugins of each kind, and those that were left out."""
    if ctx.invoked_subcommand is not None:
        return
    registry = load_registry()
    if as_json:
        click.echo(json.dumps(listing(registry), indent=2, ensure_ascii=False))
    else:
        print_listing(registry)


@plugins.command()
@click.argument("name")
def show(name: str) -> None:
    """Print what NAME does, its parameters and where it comes from."""
    entries = load_registry().entries
    found = [of_kind[name] for of_kind in entries.values() if name in of_kind]
    if not found:
        raise IsoklError(
            unknown("plugin", name, {known for of_kind in entries.values() for known in of_kind})
        )
    for entry in found:
        print_entry(entry)
        click.echo()


def listing(registry: Registry) -> dict[str, Any]:
    """Everything registered and everything left out, as plain values."""
    components = {
        kind: [
            {"name": e.name, "summary": _summary(e), **dataclasses.asdict(e.source)} for e in of_kind.values()
        ]
        for kind, of_kind in registry.entries.items()
    }
    failures = [{**dataclasses.asdict(f.source), "reason": f.reason} for f in registry.failures]
    return {"components": components, "failures": failures}


def print_listing(registry: Registry) -> None:
    """One table per kind, then the failures in red."""
    for kind, of_kind in registry.entries.items():
        click.secho(f"{kind}s", bold=True)
        rows = [(e.name, _summary(e), str(e.source)) for e in of_kind.values()]
        print_table(rows, (NAME, PLAIN, PALE))
        click.echo()
    for failure in registry.failures:
        click.secho(str(failure), fg="red")
    click.secho("isokl plugins show NAME prints parameters and details", dim=True)


def print_entry(entry: Entry) -> None:
    """Docstring, parameters with types and defaults, facts, source file and distribution of one component."""
    component = entry.component
    cls = component if isinstance(component, type) else type(component)
    click.echo(click.style(f"{entry.kind} ", bold=True) + click.style(entry.name, bold=True, **NAME))
    about = [] if component is cls else [_summary(entry)]
    about += (inspect.getdoc(cls) or "").splitlines()
    print_table([(line,) for line in about], (PLAIN,), indent="")
    click.echo()
    if component is cls:
        parameters = [_parameter(field) for field in dataclasses.fields(component)]
        click.secho("parameters" if parameters else "no parameters", bold=True)
        print_table(parameters, (NAME, PLAIN, PLAIN))
        click.echo()
    facts = {name.replace("_", " "): _text(getattr(component, name, "")) for name in FACTS}
    facts["file"] = str(getattr(sys.modules.get(cls.__module__), "__file__", None) or "unknown")
    facts["from"] = f"{entry.source}, plugin {entry.source.plugin}"
    print_table([fact for fact in facts.items() if fact[1]], (PALE, PLAIN))


def _parameter(field: dataclasses.Field[Any]) -> tuple[str, str, str]:
    hint = field.type if isinstance(field.type, str) else inspect.formatannotation(field.type)
    if field.default is not dataclasses.MISSING:
        return field.name, hint, _text(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return field.name, hint, _text(field.default_factory())
    return field.name, hint, "required"


def _summary(entry: Entry) -> str:
    try:
        return entry.summary
    except Exception as error:  # a description may be a property of somebody else's, or read from a file
        return f"(no description: {error})"


def _text(value: Any) -> str:
    """As it is written in name[key=value]."""
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return ", ".join(map(_text, value)) if isinstance(value, tuple) else str(value)


plugins.add_command(check)
plugins.add_command(new)
