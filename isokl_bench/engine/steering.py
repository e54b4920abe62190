"""A steering: the method with its fitted tensors, as data that can be stored, and as edits on a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from isokl_bench.engine.compose import Composed, weighted_sum
from isokl_bench.engine.lm import LanguageModel
from isokl_registry import IsoklError, Method, Registry, Site, load_registry


@dataclass(frozen=True)
class Steering:
    """Tensors per site (float32, CPU) and what a bare vector file leaves to guessing: see `metadata`.

    Steerings of linear methods on one model compose: `a + b`, `a - b`, `-a`, `0.5 * a`. At dose c, `3 * a + b` does what
    a does at dose 3c and b at dose c, together.
    """

    method: Method
    state: Mapping[Site, Mapping[str, Tensor]]
    metadata: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path, registry: Registry | None = None) -> Steering:
        """Read a file that `save` or `isokl db export` wrote. registry: where its method is looked up, by default among
        everything installed. Raises IsoklError when it cannot be read, or is something else."""
        try:
            return cls.from_bytes(Path(path).read_bytes(), registry or load_registry())
        except OSError as error:
            raise IsoklError(f"steering {path} cannot be read ({error.strerror}): check the path") from error
        except IsoklError as error:
            raise IsoklError(f"{path}: {error}") from error

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, over what is there. Raises IsoklError when that cannot be done."""
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
        """Read what `to_bytes` wrote. Raises IsoklError when it is something else, or its method is not installed."""
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


class Edits:
    """The edits of a steering attached to a model, and the branching of its batches.

    Below the first edited site a text gives the same output whatever the dose. So a batch goes in as distinct texts
    [g], and branches at that site into [n steered rows; g unsteered rows] (or the steered rows alone): `arrange` says
    which text each steered row reads, and at which dose. The logits that come out have the rows of the branched batch.
    """

    def __init__(self, lm: LanguageModel, steering: Steering) -> None:
        self.lm, self.method = lm, steering.method
        self.state = {
            site: {key: value.to(lm.device) for key, value in state.items()}
            for site, state in steering.state.items()
        }
        self.first = min(site.layer for site in self.state)
        self.inner = any(site.linear for site in self.state if site.layer == self.first)
        self.split = self.first + (
            not self.inner
        )  # blocks before this one see texts, the others branched rows
        self.doses = torch.zeros(0, 1, 1, device=lm.device)
        self.text = self.source = torch.zeros(0, dtype=torch.long, device=lm.device)
        self.texts = 0
        self._wide: dict[int, tuple[Tensor, Tensor]] = {}

    def arrange(self, doses: Tensor, text: Tensor | None = None, *, base: int = 0) -> None:
        """Set the rows of the next forward passes.

        doses: [n] float32. text: [n], the text of each steered row; by default row i reads text i. base: how many
        texts there are, when their unsteered rows are wanted; 0 when they are not."""
        n, device = len(doses), self.lm.device
        self.doses = doses.view(-1, 1, 1)
        self.text = torch.arange(n, device=device) if text is None else text
        self.source = torch.cat([self.text, torch.arange(base, device=device)]) if base else self.text

    def attach(self, keep: Callable[[Any], None]) -> None:
        """Hook into the model; every handle is kept at once, so that a site that is missing leaves none attached."""
        for site in self.state:
            keep(self.lm.module(site).register_forward_hook(self._edit(site), with_kwargs=True))
        for layer in range(self.first if self.inner else self.first + 1, len(self.lm.blocks)):
            keep(self.lm.blocks[layer].register_forward_pre_hook(self._widen_block(layer), with_kwargs=True))

    def _edit(self, site: Site) -> Any:
        state = self.state[site]
        branches = site.layer == self.first and not self.inner

        def edit(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            n = len(self.doses)
            if not n:
                return output
            hidden = output[0] if isinstance(output, tuple) else output
            given = args[0] if args else kwargs["hidden_states"]
            if branches:
                self._branch(len(hidden))
                steered, given = hidden[self.text], given[self.text]
                rest = hidden if len(self.source) > n else hidden[:0]
            else:
                steered, given, rest = hidden[:n], given[:n], hidden[n:]
            new = self.method.edit(steered.float(), self.doses, given.float(), state).to(hidden.dtype)
            hidden = torch.cat([new, rest]) if len(rest) else new
            return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

        return edit

    def _widen_block(self, layer: int) -> Any:
        """Masks and positions come to every block with a row per text: give the blocks above the branch their rows."""
        entry = self.inner and layer == self.first

        def widen(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not len(self.doses):
                return None
            hidden = args[0] if args else kwargs["hidden_states"]
            if entry:
                self._branch(len(hidden))
            widened = partial(self._widened, keep=None if entry else hidden)
            return widened(args), widened(kwargs)

        return widen

    def _branch(self, texts: int) -> None:
        """A forward pass has come to the branch."""
        self._wide.clear()
        self.texts = texts

    def _widened(self, value: Any, keep: Tensor | None) -> Any:
        """Every tensor in it that has a row per text, spread over the branched rows; but for `keep`."""
        if isinstance(value, Tensor):
            if value is keep or value.ndim < 2 or len(value) != self.texts:
                return value
            if id(value) not in self._wide:
                self._wide[id(value)] = (value, value[self.source])  # held, so that its id is not given away
            return self._wide[id(value)][1]
        if type(value) in (tuple, list):
            return type(value)(self._widened(item, keep) for item in value)
        if type(value) is dict:
            return {key: self._widened(item, keep) for key, item in value.items()}
        return value


@contextmanager
def attached(lm: LanguageModel, steering: Steering) -> Iterator[Edits]:
    """Attach the edits for the length of a `with` block; they are gone afterwards, whatever happened in it."""
    edits = Edits(lm, steering)
    handles: list[Any] = []
    try:
        edits.attach(handles.append)
        yield edits
    finally:
        for handle in handles:
            handle.remove()
