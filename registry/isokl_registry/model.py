"""What a model plugin is: it states the identity of a causal language model, and loads it with its tokenizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from isokl_registry.errors import IsoklError

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

    def at(self, revision: str) -> Self:
        """The same model at a revision (a branch, a tag or a commit), if it comes from where there are any.

        Its identity then has a `commit`, at which it can be had again.

        Raises:
            IsoklError: when it has no revisions, or not this one.
        """
        raise IsoklError(f"model {self.name} has no revisions: leave --revision out")

    def notes(self, *, dtype: torch.dtype) -> list[str]:
        """What a person should read before it is loaded, one line each: that it will take long, that a file is not the
        one that is known."""
        return []

    @abstractmethod
    def load(self, *, device: torch.device, dtype: torch.dtype) -> Loaded:
        """Load the model onto `device`. Raise IsoklError when it cannot be loaded."""
