"""Key-value caches with room to grow: appending a token writes it in place instead of copying the whole cache."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

ROOM = 64  # positions added beyond what is needed each time a buffer is renewed


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values as views of larger buffers, [b, heads, capacity, d]."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append [b, heads, new, d]; returns all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.buffers = (key_states[:, :, :0], value_states[:, :, :0])
            self.keys, self.values = self.buffers
        start, end = self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if end > self.buffers[0].shape[-2]:
            self.buffers = (roomy(self.keys, end), roomy(self.values, end))
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = new
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the rows beam_idx, in that order; rows may repeat or go missing."""
        length = self.keys.shape[-2]
        self.buffers = (roomy(self.keys, length, beam_idx), roomy(self.values, length, beam_idx))
        self.keys, self.values = (buffer[:, :, :length] for buffer in self.buffers)


def roomy(x: Tensor, length: int, rows: Tensor | None = None) -> Tensor:
    """A buffer for at least `length` positions that begins with x [b, heads, s, d], or with the given rows of it."""
    batch, heads, size, width = x.shape
    buffer = x.new_empty(batch if rows is None else len(rows), heads, length + ROOM, width)
    if rows is None:
        buffer[:, :, :size] = x
    else:
        torch.index_select(x, 0, rows, out=buffer[:, :, :size])
    return buffer


def new_cache(config: Any, *, croppable: bool) -> Cache:
    """An empty cache. Where every layer is attention, all of them keep all positions, sliding ones too (their mask
    sees to the window), so that rows can be cut and moved; hybrid models need the layers their config names."""
    return Cache(layer_class_to_replicate=RoomyLayer) if croppable else DynamicCache(config=config)
