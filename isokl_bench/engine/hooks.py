"""The edits of a steering hooked into a model, for the length of a `with` block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.steering import Steering
from isokl_registry import Site


class Edits:
    """The edits of a steering attached to a model, and the branching of its batches.

    Below the first edited site a text gives the same output whatever the dose. So a batch goes in as distinct
    texts [g], and branches at that site into [n steered rows; g unsteered rows] (or the steered rows alone):
    `arrange` says which text each steered row reads, and at which dose. The logits that come out have the
    rows of the branched batch.
    """

    def __init__(self, lm: LanguageModel, steering: Steering) -> None:
        self.lm, self.method = lm, steering.method
        self.state = {
            site: {key: value.to(lm.device) for key, value in state.items()}
            for site, state in steering.state.items()
        }
        self.first = min(site.layer for site in self.state)
        self.inner = any(site.linear for site in self.state if site.layer == self.first)
        self.split = self.first + (not self.inner)  # blocks before it see texts, the others branched rows
        self.doses = torch.zeros(0, 1, 1, device=lm.device)
        self.text = self.source = torch.zeros(0, dtype=torch.long, device=lm.device)
        self.texts = 0
        self._wide: dict[int, tuple[Tensor, Tensor]] = {}

    def arrange(self, doses: Tensor, text: Tensor | None = None, *, base: int = 0) -> None:
        """Set the rows of the next forward passes.

        Args:
            doses: [n] float32, of the steered rows.
            text: [n], the text of each steered row; by default row i reads text i.
            base: how many texts there are, when their unsteered rows are wanted; 0 when they are not.
        """
        n, device = len(doses), self.lm.device
        self.doses = doses.view(-1, 1, 1)
        self.text = torch.arange(n, device=device) if text is None else text
        self.source = torch.cat([self.text, torch.arange(base, device=device)]) if base else self.text

    def attach(self, keep: Callable[[Any], None]) -> None:
        """Hook into the model; each handle is handed over at once: a missing site leaves none attached."""
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
        """Masks and positions have a row per text: give the blocks above the branch those of their rows."""
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
    """Attach the edits for the length of a `with` block, whatever happens in it."""
    edits = Edits(lm, steering)
    handles: list[Any] = []
    try:
        edits.attach(handles.append)
        yield edits
    finally:
        for handle in handles:
            handle.remove()
