"""A model in a GGUF file: read once by transformers, and from then on loaded from the cache folder."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isokl_plugins.models.folder import Piece, content_hash, load_folder, piece
from isokl_plugins.models.gguf_header import read_header
from isokl_registry import IsoklError, Loaded, ModelPlugin, cache

if TYPE_CHECKING:
    import torch

CONVERTER = 1  # to be raised whenever our conversion gives other numbers
KNOWN = {  # SHA-256: what tables call that file, wherever it lies
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53": "smollm2",
    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818": "gemma3-270m",
}


@dataclass
class GgufModel(ModelPlugin):
    """A GGUF file, dequantised. Converting takes half a minute and more, so what comes out is kept for every dtype: the
    numbers that are loaded are those that lie there, and no dtype takes more disk or memory than it needs."""

    name: str
    description: str
    path: str

    def files(self) -> list[Path]:
        """The file, or the pieces that make it up."""
        return [Path(self.path)]

    def identity(self) -> dict[str, Any]:
        header = read_header(self._pieces)
        sha256 = content_hash(self._pieces)
        return {
            "source": KNOWN.get(sha256) or f"{header.name} {header.quantisation}".strip(),
            "blocks": header.blocks,
            "gguf": sha256,
            "converter": CONVERTER,
        }

    def notes(self, *, dtype: torch.dtype) -> list[str]:
        if cache.find(self._about(dtype)):
            return []
        return [f"converting {self.identity()['source']} to {_short(dtype)}, once: this takes a minute or so"]

    def load(self, *, device: torch.device, dtype: torch.dtype) -> Loaded:
        header = read_header(self._pieces)
        folder = cache.keep(
            self.identity()["source"],
            self._about(dtype),
            lambda part: self._convert(part, dtype),
            need=header.values * dtype.itemsize,
        )
        try:
            return load_folder(folder, device, dtype)
        except IsoklError as error:
            again = f"isokl models clear '{self.identity()['source']}'"
            raise IsoklError(f"{error}; after `{again}` it is converted again") from error

    @property
    def _pieces(self) -> tuple[Piece, ...]:
        return tuple(map(piece, self.files()))

    def _about(self, dtype: torch.dtype) -> dict[str, Any]:
        """All that the converted model follows from."""
        return {
            "sha256": content_hash(self._pieces),
            "dtype": _short(dtype),
            "converter": CONVERTER,
            "libraries": {name: version(name) for name in ("transformers", "gguf")},
        }

    def _convert(self, folder: Path, dtype: torch.dtype) -> None:
        from isokl_plugins.models.gguf_convert import convert

        # Alone in its folder, so that nothing beside the original is taken for a part of it.
        file = folder / "model.gguf"
        first, *more = self.files()
        if not more:
            file.symlink_to(first.resolve())
        else:
            with file.open("wb") as whole:
                for path in (first, *more):
                    with path.open("rb") as part:
                        shutil.copyfileobj(part, whole)
        convert(file, read_header(self._pieces), dtype, f"model file {first}")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def in_folder(folder: Path) -> Path | None:
    """The GGUF file of a folder that is no saved transformers model. Raises IsoklError when there are several."""
    found = sorted(folder.glob("*.gguf"))
    if not found or (folder / "config.json").is_file():
        return None
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise IsoklError(
            f"model folder {folder} has {len(found)} GGUF files: give --model one of them ({names})"
        )
    return found[0]
