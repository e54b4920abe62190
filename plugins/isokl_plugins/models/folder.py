"""A model in a folder on disk, as transformers saves it. Every other model plugin is one, once its folder is known."""

from __future__ import annotations

import hashlib
import json
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
                f"model folder {folder}: config.json has no num_hidden_layers, so it is no language model"
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
        from transformers import AutoModelForCausalLM, AutoTokenizer
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        folder = check_folder(self.folder())
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
        if lacking := sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]])):
            raise IsoklError(
                f"model folder {folder} lacks {len(lacking)} weight(s), {lacking[0]} among them: "
                "transformers would fill them with random numbers; save the whole model"
            )
        return Loaded(model.eval().to(device), tokenizer)


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
        known = path.stat()
        digest.update(path.name.encode() + _file_hash(path, known.st_size, known.st_mtime_ns))
    return digest.hexdigest()


@lru_cache(maxsize=1024)
def _file_hash(path: Path, size: int, modified: int) -> bytes:
    """Read once, for all the runs of a sweep, as long as neither size nor time of the file change."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
