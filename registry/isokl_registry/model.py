"""What a model plugin is: it states the identity of a causal language model, and loads it with its tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Loaded:
    """A model in eval mode, and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


class ModelPlugin(ABC):
    """One model under one name. `prompt_set` says which of a behavior's prompt sets it understands."""

    kind: ClassVar[str] = "model"
    name: str
    description: str
    prompt_set: str = "plain"

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """JSON-able values for the config hash: they change whenever the weights, the tokenizer or its chat template do
        (a hub commit, or SHA-256 of the files), and do not depend on where the files lie. `source` is what tables call
        the model, `blocks` the number of transformer blocks. Loads no weights, so that a stored run answers at once.

        Raise IsoklError when the model cannot be found or reached."""

    @abstractmethod
    def load(self, *, device: torch.device, dtype: torch.dtype) -> Loaded:
        """Load the model onto `device`. Raise IsoklError when it cannot be loaded."""
