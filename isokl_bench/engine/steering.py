"""A steering: the method with its fitted tensors, as data that can be stored, and as edits on a model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from isokl_bench.engine.lm import LanguageModel
from isokl_registry import IsoklError, Method, Registry, Site


@dataclass(frozen=True)
class Steering:
    """Tensors per site (float32, CPU) and what a bare vector file leaves to guessing: see `metadata`."""

    method: Method
    state: Mapping[Site, Mapping[str, Tensor]]
    metadata: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """A safetensors file: tensors named `site/name`, and JSON metadata under the key `isokl`."""
        tensors = {
            f"{site}/{key}": value.contiguous()
            for site, state in self.state.items()
            for key, value in state.items()
        }
        head = {"method": self.method.name, "version": self.method.version, "params": self.method.params()}
        head |= {"operation": self.method.operation, **self.metadata}
        return safetensors.torch.save(tensors, {"isokl": json.dumps(head, sort_keys=True)})

    @classmethod
    def from_bytes(cls, data: bytes, registry: Registry) -> Steering:
        """Read what `to_bytes` wrote. Raises IsoklError when it is something else, or its method is not installed."""
        try:
            tensors = safetensors.torch.load(data)
            size = int.from_bytes(data[:8], "little")
            head = json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["isokl"])
        except (safetensors.SafetensorError, KeyError, ValueError) as error:
            raise IsoklError(
                f"not a steering written by isokl ({type(error).__name__}): fit it again"
            ) from error
        method = registry.get("method", head.pop("method")).component.create(head.pop("params"))
        if head.pop("version") != method.version:
            raise IsoklError(f"the steering was fitted by another version of {method.name}: fit it again")
        head.pop("operation")
        state: dict[Site, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            site, key = name.split("/", 1)
            state.setdefault(Site.parse(site), {})[key] = tensor
        return cls(method, state, head)


class Edits:
    """The edits of a steering attached to a model. The first len(doses) rows of every batch are steered, row i at
    doses[i]; the rows after them are left alone. `doses` may be replaced between forward passes."""

    def __init__(self, lm: LanguageModel, steering: Steering) -> None:
        self.method = steering.method
        self.doses: Tensor = torch.zeros(0, 1, 1, device=lm.device)
        self.state = {
            site: {key: value.to(lm.device) for key, value in state.items()}
            for site, state in steering.state.items()
        }

    def set_doses(self, doses: Tensor) -> None:
        """doses: [steered rows], float32."""
        self.doses = doses.view(-1, 1, 1)

    def hook(self, site: Site) -> Any:
        state = self.state[site]

        def edit(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            steered = len(self.doses)
            if not steered:
                return output
            hidden = output[0] if isinstance(output, tuple) else output
            given = args[0] if args else kwargs["hidden_states"]
            new = self.method.edit(hidden[:steered].float(), self.doses, given[:steered].float(), state)
            hidden = torch.cat([new.to(hidden.dtype), hidden[steered:]])
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return edit


@contextmanager
def attached(lm: LanguageModel, steering: Steering) -> Iterator[Edits]:
    """Attach the edits for the length of a `with` block; they are gone afterwards, whatever happened in it."""
    edits = Edits(lm, steering)
    handles = []
    try:
        for site in steering.state:
            handle = lm.module(site).register_forward_hook(edits.hook(site), with_kwargs=True)
            handles.append(
                handle
            )  # one by one: a site that does not exist must not leave the earlier ones attached
        yield edits
    finally:
        for handle in handles:
            handle.remove()
