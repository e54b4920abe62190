"""The built-in models: three small ones that the package ships, aliases of hub models, any hub id, any folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isokl_plugins.models.folder import FolderModel
from isokl_plugins.models.hub import ALIASES, HubModel
from isokl_plugins.models.tiny.plugin import TINY, TinyModel
from isokl_registry import IsoklError, ModelPlugin, hookimpl


@hookimpl
def register_models(register: Callable[[ModelPlugin], None]) -> None:
    for name, description in TINY.items():
        register(TinyModel.shipped(name, description))
    for name, hub_id in ALIASES.items():
        register(HubModel(name, f"{hub_id} from the hub", hub_id))


@hookimpl
def resolve_model(name: str) -> ModelPlugin | None:
    if Path(name).is_dir():
        return FolderModel(name, "a folder", name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise IsoklError(f"model folder {name} does not exist: check the path")
    return HubModel(name, "a hub id", name) if "/" in name else None
