"""Generating what a transcript lacks, in batches that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from isokl_bench.engine.batching import in_batches, out_of_memory
from isokl_bench.engine.cache_snapshot import SHARE, CacheSnapshot, Place
from isokl_bench.engine.hooks import Edits, attached
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.lockstep import Lockstep
from isokl_bench.engine.steering import Steering
from isokl_bench.engine.transcript import Ints, Transcript

Tell = Callable[[float], None]


@torch.inference_mode()
def generate(
    lm: LanguageModel,
    steering: Steering,
    transcript: Transcript,
    snapshots_of: Ints | None = None,
    too_strong: Callable[[int], bool] | None = None,
    *,
    drafts: Ints | None = None,
    tell: Tell = lambda share: None,
) -> list[CacheSnapshot]:
    """Write all rows of a transcript.

    Args:
        lm: the model.
        steering: what is applied to the rows, at the dose of each.
        transcript: blank.
        snapshots_of: [dose, prompt], the rows whose caches are wanted.
        too_strong: asked every few tokens with a dose's place in the transcript; True drops the dose.
        drafts: [row, token], guesses of the greedy texts, −1 where there is none.
        tell: called with the share of all tokens that has been written.

    Returns:
        The snapshots, under the places [dose, prompt]; none at all when memory does not suffice for them.
    """
    longest, window = max(map(len, transcript.prompts)), int(transcript.window.max())
    places = _places(snapshots_of) if snapshots_of is not None else {}
    needed = sum(map(len, places.values())) * lm.cache_bytes(longest + window)
    if not lm.takes_tree_masks or drafts is not None or needed >= SHARE * lm.free_memory():
        places = {}
    with attached(lm, steering) as edits:
        job = _Job(lm, edits, transcript, too_strong, drafts, places, tell)
        logits = 1 if drafts is None else window
        size = lm.max_rows(longest + window, logits, read=longest + logits)
        in_batches(lm, range(len(transcript.rows)), size // 2, job.write)  # as many unsteered rows at worst
    return job.snapshots


@dataclass
class _Job:
    """ahead: tokens of the batches that are still to come."""

    lm: LanguageModel
    edits: Edits
    transcript: Transcript
    too_strong: Callable[[int], bool] | None
    drafts: Ints | None
    places: Mapping[int, Sequence[Place]]
    tell: Tell
    snapshots: list[CacheSnapshot] = field(default_factory=list)
    ahead: int = 0

    def write(self, batch: Sequence[int]) -> None:
        """Write some rows, but for those whose dose has been dropped."""
        rows = [row for row in batch if self.transcript.complete[self.transcript.dose[row]]]
        self.ahead = int(self.transcript.window[batch[-1] + 1 :].sum())
        if not rows:
            return
        try:
            self.snapshots += self._lockstep(rows)
            return
        except RuntimeError as error:
            if not (self.places and out_of_memory(error)):
                raise
        # What may save time later goes first. Outside the except block: the traceback would keep the tensors
        # alive.
        self.places = {}
        self.snapshots.clear()
        self.write(batch)

    def _lockstep(self, rows: Sequence[int]) -> list[CacheSnapshot]:
        job = Lockstep(
            self.lm,
            self.edits,
            self.transcript,
            rows,
            self.too_strong,
            self.drafts,
            self.places,
            self._tell_left,
        )
        job.run()
        return job.snapshots

    def _tell_left(self, left: int) -> None:
        """`left` tokens of this batch are still to be written."""
        self.tell(1 - (self.ahead + left) / int(self.transcript.window.sum()))


def _places(rows: Ints) -> Mapping[int, Sequence[Place]]:
    """The places [dose, prompt] of every row."""
    places: dict[int, list[Place]] = {}
    for place in np.ndindex(*rows.shape):
        places.setdefault(int(rows[place]), []).append((place[0], place[1]))
    return places
