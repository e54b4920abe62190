"""Which tensors an edit computes with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered: the shapes of tensors neither given nor computed meanwhile, in `strangers`.

    Single numbers do not count: they mix with tensors on any device."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.strangers: list[list[int]] = []
        self._held = list(given)  # held, so that no address is used again
        self._known = {_storage(tensor) for tensor in self._held}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for tensor in _tensors((args, kwargs)):
            if func is torch.ops.aten.lift_fresh.default:  # torch.tensor([…]): made here, by no operator
                self._keep(tensor)
            if tensor.ndim and _storage(tensor) not in self._known:
                self.strangers.append(list(tensor.shape))
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            self._keep(tensor)
        return result

    def _keep(self, tensor: Tensor) -> None:
        self._held.append(tensor)
        self._known.add(_storage(tensor))


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
