"""What a model plugin is: it loads a causal language model and its tokenizer, and states their identity."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class Loaded:
    """A loaded model. `identity` goes into the config hash: it must change whenever the weights or the tokenizer do
    (a hub commit, or a SHA-256 of the files), and must not depend on where they lie."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    identity: dict[str, Any] = field(default_factory=dict)


class ModelPlugin(ABC):
    """One model under one name. `prompt_set` says which of a behavior's prompt sets it understands."""

    kind: ClassVar[str] = "model"
    name: str
    description: str
    prompt_set: str = "plain"

    @abstractmethod
    def load(self, *, device: torch.device, dtype: torch.dtype) -> Loaded:
        """Load in eval mode. Raise IsoklError when it cannot be found or reached."""
