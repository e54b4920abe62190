"""`isokl models`: the converted models in the cache folder, and how to be rid of them."""

from __future__ import annotations

import json
import time

import click

from isokl_bench.cli.plugins_table import NAME, PALE, PLAIN, print_table
from isokl_bench.results.wording import gigabytes
from isokl_registry import IsoklError, cache, unknown


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.pass_context
def models(ctx: click.Context, as_json: bool) -> None:
    """List the converted models in the cache folder: a GGUF file is converted once for each dtype, and kept.

    The folder is isokl/models in the user's cache folder, or models in ISOKL_CACHE. Above 20 GB, the least
    recently used are dropped. `isokl plugins` lists the models that can be named.
    """
    if ctx.invoked_subcommand is not None:
        return
    kept = cache.entries()
    if as_json:
        rows = [
            {
                "name": k.name,
                "made_of": k.about,
                "folder": str(k.folder),
                "bytes": k.size,
                "used": _day(k.used),
            }
            for k in kept
        ]
        click.echo(
            json.dumps({"folder": str(cache.cache_folder()), "limit": cache.LIMIT, "models": rows}, indent=2)
        )
        return
    print_table(
        [(k.name, str(k.about.get("dtype", "")), gigabytes(k.size), f"used {_day(k.used)}") for k in kept],
        (NAME, PLAIN, PLAIN, PALE),
        indent="",
    )
    total = gigabytes(sum(k.size for k in kept))
    click.secho(f"{total} of {gigabytes(cache.LIMIT)} in {cache.cache_folder()}", dim=True)


@models.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Drop everything.")
def clear(name: str | None, everything: bool) -> None:
    """Drop the converted model NAME, in every dtype.

    It is converted again when it is needed."""
    if (name is None) != everything:
        raise click.UsageError("give the NAME of a converted model, or --all")
    names = {kept.name for kept in cache.entries()}
    if name is not None and name not in names:
        raise IsoklError(unknown("converted model", name, names))
    for kept in cache.clear(name):
        click.echo(f"dropped {kept.name} {kept.about.get('dtype', '')} ({gigabytes(kept.size)})")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
