"""A steering: the method with its fitted tensors, as data that can be stored, added and scaled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from isokl_bench.engine.compose import Composed, weighted_sum
from isokl_registry import IsoklError, Method, Registry, Site, load_registry


@dataclass(frozen=True)
class Steering:
    """Tensors per site (float32, CPU) and what a bare vector file leaves to guessing: see `metadata`.

    Steerings of linear methods on one model compose: `a + b`, `a - b`, `-a`, `0.5 * a`. At dose c, `3 * a +
    b` does what a does at dose 3c and b at dose c, together.
    """

    method: Method
    state: Mapping[Site, Mapping[str, Tensor]]
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path, registry: Registry | None = None) -> Steering:
        """Read a file that `save` or `isokl db export` wrote.

        Args:
            path: the file.
            registry: where its method is looked up, by default among everything installed.

        Raises:
            IsoklError: when it cannot be read, or is something else.
        """
        try:
            return cls.from_bytes(Path(path).read_bytes(), registry or load_registry())
        except OSError as error:
            raise IsoklError(f"steering {path} cannot be read ({error.strerror}): check the path") from error
        except IsoklError as error:
            raise IsoklError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, over what is there.

        Raises:
            IsoklError: when that cannot be done.
        """
        try:
            Path(path).write_bytes(self.to_bytes())
        except OSError as error:
            raise IsoklError(
                f"steering {path} cannot be written ({error.strerror}): give another path"
            ) from error

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
        """Read what `to_bytes` wrote.

        Raises:
            IsoklError: when it is something else, or its method is not installed.
        """
        try:
            tensors = safetensors.torch.load(data)
            size = int.from_bytes(data[:8], "little")
            head = dict(json.loads(json.loads(data[8 : 8 + size])["__metadata__"]["isokl"]))
            name, params = str(head.pop("method")), dict(head.pop("params"))
            version, _ = head.pop("version"), head.pop("operation")
            state: dict[Site, dict[str, Tensor]] = {}
            for tensor_name, tensor in tensors.items():
                site, key = tensor_name.split("/", 1)
                state.setdefault(Site.parse(site), {})[key] = tensor
        except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            raise IsoklError(
                f"not a steering written by isokl ({type(error).__name__}): fit it again"
            ) from error
        kind = Composed if name == Composed.name else registry.get("method", name).component
        method = kind.create(params)
        if version != method.version:
            raise IsoklError(f"the steering was fitted by another version of {method.name}: fit it again")
        return cls(method, state, head)

    def __add__(self, other: Steering) -> Steering:
        if not isinstance(other, Steering):
            return NotImplemented
        return Steering(*weighted_sum([(1.0, self), (1.0, other)]))

    def __sub__(self, other: Steering) -> Steering:
        if not isinstance(other, Steering):
            return NotImplemented
        return Steering(*weighted_sum([(1.0, self), (-1.0, other)]))

    def __neg__(self) -> Steering:
        return Steering(*weighted_sum([(-1.0, self)]))

    def __mul__(self, weight: float) -> Steering:
        if not isinstance(weight, Real):
            return NotImplemented
        return Steering(*weighted_sum([(float(weight), self)]))

    __rmul__ = __mul__
