"""Key-value caches with room to grow: tokens and rows are appended in place, without a copy of all.

A batch branches at the first edited site: blocks below it see one row per text, the blocks above it one row
per steered row and one per text. So every operation on rows takes two sets of indices, for the layers below
and above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

ROOM = 64  # positions added beyond what is needed each time a buffer is renewed


class RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values as views of larger buffers, [rows to come, heads, positions to come, d]."""

    keys: Tensor
    values: Tensor
    buffers: tuple[Tensor, Tensor]

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Append [b, heads, new, d]; returns all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._hold(key_states[:, :, :0], value_states[:, :, :0])
        rows, start, end = len(self.keys), self.keys.shape[-2], self.keys.shape[-2] + key_states.shape[-2]
        if end > self.buffers[0].shape[-2]:
            capacity = len(self.buffers[0])
            self.buffers = (roomy(self.keys, capacity, end), roomy(self.values, capacity, end))
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:rows, :, start:end] = new
        self.keys, self.values = (buffer[:rows, :, :end] for buffer in self.buffers)
        return self.keys, self.values

    def append_rows(self, parents: Tensor) -> None:
        """Add copies of the rows `parents` at the end."""
        rows, length = len(self.keys), self.keys.shape[-2]
        total = rows + len(parents)
        if total > len(self.buffers[0]):
            capacity = total + rows // 2
            self.buffers = (roomy(self.keys, capacity, length), roomy(self.values, capacity, length))
        for buffer in self.buffers:
            buffer[rows:total, :, :length] = buffer[parents, :, :length]
        self.keys, self.values = (buffer[:total, :, :length] for buffer in self.buffers)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Keep the rows beam_idx, in that order; rows may repeat or go missing."""
        self._hold(self.keys[beam_idx], self.values[beam_idx])

    def copy(self, rows: Tensor) -> RoomyLayer:
        """A layer of some of the rows."""
        return self._with(self.keys[rows], self.values[rows])

    def cut(self, rows: Tensor, index: Tensor) -> RoomyLayer:
        """A layer whose row i, position j is row rows[i], position index[i, j] of this one."""

        def take(x: Tensor) -> Tensor:
            return x.transpose(1, 2)[rows[:, None], index].transpose(1, 2)

        return self._with(take(self.keys), take(self.values))

    def _with(self, keys: Tensor, values: Tensor) -> RoomyLayer:
        fresh = RoomyLayer()
        fresh.lazy_initialization(keys, values)
        fresh._hold(keys, values)
        return fresh

    def _hold(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = self.buffers = (keys, values)


def roomy(x: Tensor, rows: int, length: int) -> Tensor:
    """A buffer for `rows` rows and at least `length` positions that begins with x [b, heads, s, d]."""
    batch, heads, size, width = x.shape
    buffer = x.new_empty(max(rows, batch), heads, length + ROOM, width)
    buffer[:batch, :, :size] = x
    return buffer


def new_cache(config: Any, *, croppable: bool) -> Cache:
    """An empty cache. Where every layer is attention, all of them keep all positions, sliding ones too (their
    mask sees to the window), so that rows can be cut and moved; hybrid models need the layers their config
    names."""
    return Cache(layer_class_to_replicate=RoomyLayer) if croppable else DynamicCache(config=config)


def select_rows(cache: Cache, split: int, lower: Tensor, upper: Tensor) -> None:
    """Keep rows `lower` of the first `split` layers and rows `upper` of the others."""
    for number, layer in enumerate(cache.layers):
        layer.reorder_cache(lower if number < split else upper)


def copy_rows(cache: Cache, split: int, lower: Tensor, upper: Tensor) -> Cache:
    """Another cache, of rows `lower` of the first `split` layers and rows `upper` of the others."""
    fresh = Cache(layer_class_to_replicate=RoomyLayer)
    fresh.layers.extend(
        layer.copy(lower if number < split else upper) for number, layer in enumerate(cache.layers)
    )
    return fresh


def append_texts(cache: Cache, split: int, rows: int, texts: int, parents: Tensor) -> None:
    """Add copies of the texts `parents`: one row in the first `split` layers, an unsteered one in the others,
    whose rows are [steered rows; texts]."""
    for number, layer in enumerate(cache.layers):
        before = 0 if number < split else rows
        if isinstance(layer, RoomyLayer):
            layer.append_rows(parents + before)
        else:  # recurrent states are small: copied whole
            old = torch.arange(before + texts, device=parents.device)
            layer.reorder_cache(torch.cat([old, parents + before]))


# For every row of the result: which row it was, and how many last positions it loses.
Cut = tuple[Sequence[int], Sequence[int]]


def cut_rows(cache: Cache, split: int, lower: Cut, upper: Cut) -> Cache:
    """A cache of rows without their last positions, moved right so that all end together (positions are told
    by the mask). The least number of positions lost must be the same in both cuts: they come out equally
    long."""
    assert min(lower[1]) == min(upper[1])
    fresh = Cache(layer_class_to_replicate=RoomyLayer)
    device, length = cache.layers[0].keys.device, cache.layers[0].keys.shape[-2]
    where = [
        (torch.tensor(rows, device=device), shifted(length, back, device).clamp_min(0))
        for rows, back in (lower, upper)
    ]
    for number, layer in enumerate(cache.layers):
        fresh.layers.append(layer.cut(*where[0 if number < split else 1]))
    return fresh


def cut_mask(mask: Tensor, cut: Cut) -> Tensor:
    """The mask [rows, positions] of a cut."""
    rows, back = cut
    index = shifted(mask.shape[-1], back, mask.device)
    return torch.where(
        index >= 0, mask[torch.tensor(rows, device=mask.device)[:, None], index.clamp_min(0)], 0
    )


def positions(mask: Tensor) -> Tensor:
    """Which position of its text each column of a cache holds, −1 for none. mask: [row, column]."""
    return torch.where(mask.bool(), mask.cumsum(-1) - 1, -1)


def shifted(length: int, back: Sequence[int], device: torch.device) -> Tensor:
    """Old position [rows, shorter length] of every new one; negative where there is none."""
    least = min(back)
    steps = torch.tensor(back, device=device) - least
    return torch.arange(length - least, device=device) - steps[:, None]
