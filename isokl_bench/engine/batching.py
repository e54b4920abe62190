"""Rows that share what they can, in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch

from isokl_bench.engine.lm import LanguageModel
from isokl_registry import IsoklError

T = TypeVar("T")
PIECE = 4096  # tokens of texts read at once: what goes through a block should stay in a processor's cache


def in_batches(
    lm: LanguageModel, rows: Sequence[T], size: int, work: Callable[[Sequence[T]], object]
) -> None:
    """Call work(batch) for one batch of rows after the other.

    Where memory runs out the batch is halved, now and for the rest of the run, and done again from its start;
    `lm.notify` is told.

    Args:
        lm: the model whose memory it is.
        rows: all rows.
        size: the most rows of a batch.
        work: what is done with each.

    Raises:
        IsoklError: when memory does not suffice for one row.
    """
    start = 0
    while start < len(rows):
        batch = rows[start : start + max(1, min(size, lm.row_limit))]
        try:
            work(batch)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise IsoklError(
                    f"out of memory on {lm.device} with a single row: use a smaller model, a shorter window, "
                    "--dtype bfloat16 or another --device"
                ) from error
            shortage = len(batch)
        else:
            start += len(batch)
            continue
        # outside the except block: the traceback would keep the failed batch's tensors alive
        lm.row_limit = shortage // 2
        if lm.device.type == "cuda":
            torch.cuda.empty_cache()
        lm.notify(f"out of memory on {lm.device} with {shortage} rows: going on with {lm.row_limit}")


def distinct_texts(texts: Iterable[T]) -> tuple[list[T], list[int]]:
    """The texts without repetitions, in the order in which they come, and which of them each one was."""
    place: dict[T, int] = {}
    index = [place.setdefault(text, len(place)) for text in texts]
    return list(place), index


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocation failed: CUDA has an exception for it, the CPU a message."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
