"""`isokl plugins`: what there is, where it comes from, and what was left out and why."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from isokl_registry import Entry, IsoklError, Registry, load_registry, unknown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FACTS = ("prompt_set", "path", "operation", "linears", "target", "unit", "version")
UNFOLDED = 1_000_000


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List what there is of each kind, and the plugins that were left out."""
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
    console = _console()
    for entry in found:
        print_entry(console, entry)
        console.print()


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
    console = _console()
    for kind, of_kind in registry.entries.items():
        console.print(f"[bold]{kind}s[/]")
        rows = [(e.name, _summary(e), str(e.source)) for e in of_kind.values()]
        console.print(_table(rows, styles=("cyan", "", "dim")))
        console.print()
    for failure in registry.failures:
        console.print(str(failure), style="red", markup=False)
    console.print("[dim]isokl plugins show NAME prints parameters and details[/]")


def print_entry(console: Console, entry: Entry) -> None:
    """Docstring, parameters with types and defaults, facts, source file and distribution of one component."""
    component = entry.component
    cls = component if isinstance(component, type) else type(component)
    console.print(f"[bold]{entry.kind} [cyan]{entry.name}[/][/]")
    if component is not cls:
        console.print(_summary(entry), markup=False)
    console.print(inspect.getdoc(cls) or "", markup=False)
    console.print()
    if component is cls:
        parameters = [_parameter(field) for field in dataclasses.fields(component)]
        console.print("[bold]parameters[/]" if parameters else "[bold]no parameters[/]")
        if parameters:
            console.print(_table(parameters, styles=("cyan", "", "")))
        console.print()
    facts = {name.replace("_", " "): _text(getattr(component, name, "")) for name in FACTS}
    facts["file"] = str(getattr(sys.modules.get(cls.__module__), "__file__", None) or "unknown")
    facts["from"] = f"{entry.source}, plugin {entry.source.plugin}"
    console.print(_table([fact for fact in facts.items() if fact[1]], styles=("dim", "")))


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


def _table(rows: list[Any], styles: tuple[str, ...]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(width=1)
    for style in styles:
        table.add_column(style=style, overflow="fold")
    for row in rows:
        table.add_row("", *map(Text, row))
    return table


def _console() -> Console:
    """As wide as the terminal; where the output is no terminal nothing is folded."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else UNFOLDED, highlight=False)
