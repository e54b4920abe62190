"""Models from the Hugging Face hub, by alias or id."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from isokl_plugins.models.folder import FolderModel
from isokl_registry import IsoklError

ALIASES = {
    "qwen": "Qwen/Qwen3-0.6B",
    "qwen3.5": "Qwen/Qwen3.5-0.8B",
    "llama": "meta-llama/Llama-3.2-1B-Instruct",
    "gemma": "google/gemma-3-1b-it",
    "olmo": "allenai/OLMo-2-0425-1B-Instruct",
}
FILES = ["*.json", "*.safetensors", "*.jinja", "tokenizer*", "merges.txt", "vocab*"]
WAYS_OUT = "give --model the folder of a downloaded copy, or a shipped model such as tiny-qwen"


@dataclass
class HubModel(FolderModel):
    """A model by hub id (`path`), downloaded once into the hub's cache."""

    revision: str | None = None

    def at(self, revision: str) -> HubModel:
        return replace(self, revision=revision)

    def folder(self) -> Path:
        return self._snapshot

    def source(self, folder: Path) -> str:
        return self.path

    def weights(self, folder: Path) -> dict[str, Any]:
        return {"commit": folder.name}  # the cache names a snapshot's folder by its commit

    @cached_property
    def _snapshot(self) -> Path:
        from huggingface_hub import errors, snapshot_download
        from huggingface_hub.utils.tqdm import disable_progress_bars

        # It tells of each try; ours is the last word.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        if not sys.stderr.isatty():
            disable_progress_bars()
        try:
            return Path(snapshot_download(self.path, revision=self.revision, allow_patterns=FILES))
        except errors.GatedRepoError:
            raise IsoklError(
                f"model {self.path} is gated: accept its terms and `hf auth login`, or {WAYS_OUT}"
            ) from None
        except errors.RevisionNotFoundError:
            raise IsoklError(
                f"model {self.path} has no revision {self.revision!r}: check --revision, or leave it out"
            ) from None
        except (errors.RepositoryNotFoundError, errors.HFValidationError):
            raise IsoklError(f"the hub has no model {self.path!r}: check the id, or {WAYS_OUT}") from None
        except errors.LocalEntryNotFoundError as error:  # nothing of it, or not all of it, is in the cache
            why = type(error.__cause__ or error).__name__
            raise IsoklError(
                f"the hub cannot be reached for model {self.path} ({why}): {WAYS_OUT}"
            ) from error
        except Exception as error:  # httpx2, OSError …: the transport is the hub library's own affair
            raise IsoklError(
                f"the download of model {self.path} broke off ({type(error).__name__}): run it again (files that are whole "
                f"are kept), or {WAYS_OUT}"
            ) from error
