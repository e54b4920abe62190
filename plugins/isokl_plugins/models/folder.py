"""A model in a folder on disk, as transformers saves it. Every other model plugin is one, once its folder is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isokl_registry import IsoklError, Loaded, ModelPlugin

if TYPE_CHECKING:
    import torch

CONFIG_FILES = ("config.json", "generation_config.json")  # the second says where a reply ends
TOKENIZER_FILES = (
    "added_tokens.json",
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "chat_template*",
)


@dataclass
class FolderModel(ModelPlugin):
    """A saved transformers model: safetensors weights only, and no code from the folder."""

    name: str
    description: str
    path: str

    def folder(self) -> Path:
        """Where the files are."""
        return Path(self.path)

    def identity(self) -> dict[str, Any]:
        folder = check_folder(self.folder())
        config = read_config(folder)
        text = config.get("text_config", config)
        blocks = text.get("num_hidden_layers", text.get("n_layer"))
        if not isinstance(blocks, int):
            raise IsoklError(
                f"model folder {folder}: config.json has no num_hidden_layers, so it is not a language model"
            )
        tokenizer = sorted({path for pattern in TOKENIZER_FILES for path in folder.glob(pattern)})
        if not tokenizer:
            raise IsoklError(
                f"model folder {folder} has no tokenizer files: save the tokenizer beside the model"
            )
        return {
            "source": self.source(folder),
            "blocks": blocks,
            "tokenizer": files_hash(tokenizer),
            **self.weights(folder),
        }

    def source(self, folder: Path) -> str:
        return folder.resolve().name

    def weights(self, folder: Path) -> dict[str, Any]:
        configs = [path for name in CONFIG_FILES if (path := folder / name).is_file()]
        return {"weights": files_hash([*configs, *sorted(folder.glob("*.safetensors"))])}

    def load(self, *, device: torch.device, dtype: torch.dtype) -> Loaded:
        return load_folder(check_folder(self.folder()), device, dtype)


def load_folder(folder: Path, device: torch.device, dtype: torch.dtype) -> Loaded:
    """What transformers saved in a folder. Raises IsoklError when it cannot be loaded, or weights are missing."""
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    except Exception as error:  # a third party's files: whatever is wrong with them is one line here
        raise IsoklError(
            f"model folder {folder} cannot be loaded: {' '.join(str(error).split())[:300]}"
        ) from error
    check_whole(info, f"model folder {folder}")
    return Loaded(model.eval().to(device), tokenizer)


def check_whole(info: Mapping[str, Any], what: str) -> None:
    """Raises IsoklError when transformers' loading info says that weights are missing."""
    if lacking := sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]])):
        raise IsoklError(
            f"{what} lacks {len(lacking)} weight(s), {lacking[0]} among them: "
            "transformers would fill them with random numbers; save the whole model"
        )


def check_folder(folder: Path) -> Path:
    """The folder, or IsoklError when it is no model or has only pickled weights."""
    if not (folder / "config.json").is_file():
        raise IsoklError(
            f"model folder {folder} has no config.json: point --model at a saved transformers model"
        )
    if not any(folder.glob("*.safetensors")):
        raise IsoklError(
            f"model folder {folder} has no .safetensors weights: save it again with save_pretrained"
        )
    return folder


def read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IsoklError(f"model folder {folder}: config.json cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise IsoklError(f"model folder {folder}: config.json is no JSON object")
    return config


def files_hash(paths: list[Path]) -> str:
    """SHA-256 over names and contents."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode() + bytes.fromhex(content_hash((piece(path),))))
    return digest.hexdigest()


@dataclass(frozen=True)
class Piece:
    """A file as it stood when it was looked at."""

    path: Path
    size: int
    modified: int


def piece(path: Path) -> Piece:
    """Raises IsoklError when it is no file that can be looked at."""
    try:
        known = path.stat()
    except OSError as error:
        raise IsoklError(f"model file {path} cannot be read ({error.strerror}): check the path") from None
    return Piece(path, known.st_size, known.st_mtime_ns)


@lru_cache(maxsize=1024)
def content_hash(pieces: tuple[Piece, ...]) -> str:
    """SHA-256 of the bytes of one file, or of its pieces in a row. Read once, for all the runs of a sweep, as long as
    neither size nor time of a file change."""
    digest = hashlib.sha256()
    for part in pieces:
        with part.path.open("rb") as file:
            hashlib.file_digest(file, lambda: digest)
    return digest.hexdigest()
