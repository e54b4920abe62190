"""`isokl info`: what a bug report needs. A part that cannot be told says why, and the others are told all the same."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import click

from isokl_bench.cli.options import db_option
from isokl_bench.cli.plugins_table import NAME, PLAIN, print_table
from isokl_bench.results.wording import gigabytes

PACKAGES = ("isokl-bench", "torch", "transformers")


@click.command()
@db_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
def info(db: str, as_json: bool) -> None:
    """Print what a bug report needs: versions, devices, memory, plugins, cache folder and database.

    Nothing is created, and no part keeps the others from being printed.
    """
    found = facts(db)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        print_table(
            [(part, text) for part, value in found.items() for text in _lines(part, value)], (NAME, PLAIN), ""
        )


def facts(db: str) -> dict[str, Any]:
    """Every part as plain values; one that could not be told is {"error": why}."""
    parts: dict[str, Callable[[], Any]] = {
        "python": lambda: f"{platform.python_version()}, {platform.platform()}",
        **{name: partial(version, name) for name in PACKAGES},
        "machine": _machine,
        "gpus": _gpus,
        "plugins": _plugins,
        "cache": _cache,
        "database": lambda: _database(db),
    }
    return {name: _told(part) for name, part in parts.items()}


def _told(part: Callable[[], Any]) -> Any:
    try:
        return part()
    except Exception as error:  # what is broken is what a bug report is about
        kind, text = type(error).__name__, " ".join(str(error).split())
        return {"error": text if kind in ("IsoklError", "StoreError") else f"{kind}: {text}"}


def _machine() -> dict[str, Any]:
    from isokl_bench.engine.memory import machine_memory, processors

    return {"cores": processors(), "bytes": int(machine_memory())}


def _gpus() -> list[dict[str, Any]]:
    """As torch sees them."""
    import torch

    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    found = [
        {"device": f"cuda:{i}", "name": card.name, "bytes": card.total_memory} for i, card in enumerate(cards)
    ]
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple", "bytes": torch.mps.recommended_max_memory()})
    return found


def _plugins() -> dict[str, Any]:
    """How many components each distribution has, and what was left out."""
    from isokl_registry import load_registry

    registry = load_registry()
    entries = [entry for of_kind in registry.entries.values() for entry in of_kind.values()]
    return {
        "found": dict(Counter(str(entry.source) for entry in entries)),
        "failed": [str(failure) for failure in registry.failures],
    }


def _cache() -> dict[str, Any]:
    from isokl_registry import cache

    kept = cache.entries()
    return {
        "folder": str(cache.cache_folder()),
        "models": len(kept),
        "bytes": sum(model.size for model in kept),
    }


def _database(db: str) -> dict[str, Any]:
    """Read past the store, which would bring an older schema up to date."""
    from isokl_db.connection import Database

    database = Database(db, busy_timeout=1.0, read_only=True)
    try:
        with database.reading() as connection:
            revision, configs, attempts = connection.exec_driver_sql(
                "SELECT (SELECT version_num FROM alembic_version), (SELECT COUNT(*) FROM configs),"
                " (SELECT COUNT(*) FROM attempts)"
            ).one()
    finally:
        database.engine.dispose()
    return {
        "name": str(database.path or database.name),
        "schema": revision,
        "runs": configs,
        "attempts": attempts,
    }


def _lines(part: str, value: Any) -> list[str]:
    """One part for people."""
    if isinstance(value, dict) and "error" in value:
        return [f"not known ({value['error']})"]
    if part == "machine":
        return [f"{value['cores']} cores, {gigabytes(value['bytes'])}"]
    if part == "gpus":
        return [f"{gpu['device']}: {gpu['name']}, {gigabytes(gpu['bytes'])}" for gpu in value] or ["none"]
    if part == "plugins":
        return [*(f"{count} from {source}" for source, count in value["found"].items()), *value["failed"]]
    if part == "cache":
        return [f"{value['folder']}: {value['models']} models, {gigabytes(value['bytes'])}"]
    if part == "database":
        return [
            f"{value['name']}: schema {value['schema']}, {value['runs']} runs, {value['attempts']} attempts"
        ]
    return [str(value)]
