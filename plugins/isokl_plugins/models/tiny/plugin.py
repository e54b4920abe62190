"""The shipped models as a plugin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isokl_plugins.models.folder import FolderModel

WEIGHTS = Path(__file__).with_name("weights")
TINY = {
    "tiny-qwen": "Qwen 3 of the invented town, shipped with the package",
    "tiny-llama": "Llama of the invented town, shipped with the package",
    "tiny-gemma": "Gemma 3 of the invented town (sliding and global layers), shipped with the package",
}


@dataclass
class TinyModel(FolderModel):
    """A small model that the package trained itself, and that needs no download."""

    prompt_set: str = "town"

    @classmethod
    def shipped(cls, name: str, description: str) -> TinyModel:
        return cls(name, description, str(WEIGHTS / name))
