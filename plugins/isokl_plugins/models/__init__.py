"""The built-in models: three small ones that the package ships, two from other packages, aliases of hub models, any hub id,
folder or GGUF file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from isokl_plugins.models.folder import FolderModel
from isokl_plugins.models.gguf_file import GgufModel, in_folder
from isokl_plugins.models.hub import ALIASES, HubModel
from isokl_plugins.models.tiny.plugin import TINY, TinyModel
from isokl_plugins.models.wheel import GEMMA3, SMOLLM2
from isokl_registry import IsoklError, ModelPlugin, hookimpl, shown


@hookimpl
def register_models(register: Callable[[ModelPlugin], None]) -> None:
    for name, description in TINY.items():
        register(TinyModel.shipped(name, description))
    register(SMOLLM2)
    register(GEMMA3)
    for name, hub_id in ALIASES.items():
        register(HubModel(name, f"{hub_id} from the hub", hub_id))


@hookimpl
def resolve_model(name: str) -> ModelPlugin | None:
    path = Path(name)
    try:
        is_folder, is_file = path.is_dir(), path.is_file()
    except OSError as error:  # too long, or in a folder that is not ours
        raise IsoklError(
            f"model {shown(name)} cannot be looked up ({error.strerror}): check the path"
        ) from None
    if is_folder:
        file = in_folder(path)
        return GgufModel(name, "a GGUF file", str(file)) if file else FolderModel(name, "a folder", name)
    if is_file or path.suffix == ".gguf":
        return GgufModel(name, "a GGUF file", name)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise IsoklError(f"model folder {name} does not exist: check the path")
    return HubModel(name, "a hub id", name) if "/" in name else None
