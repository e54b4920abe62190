"""What a run has done and how far it is: every phase is stored as it finishes, and told of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from isokl_bench.pipeline.events import Event, Listener
from isokl_bench.pipeline.phases import Phase, stored_phases, weight
from isokl_db import Attempt, PhaseContent, StoreError


class Journal:
    """The phases of an attempt, and the share of them that is done.

    Args:
        attempt: where they are stored.
        missing: says which phases are to come, given those that are done.
        listen: is told of each.
    """

    def __init__(
        self,
        attempt: Attempt,
        missing: Callable[[dict[Phase, Any]], Sequence[Phase]],
        listen: Listener,
    ) -> None:
        self.attempt, self.listen = attempt, listen
        self.done = stored_phases(attempt.phases())
        self._total = self._left = weight(missing(self.done))
        self._ahead = 0.0  # the weight of what the phase at hand has done

    def say(self, kind: str, text: str, **data: Any) -> None:
        """Tell the listener, with the share of the work that is done."""
        share = 1 - (self._left - self._ahead) / self._total if self._total else 1.0
        self.listen(Event(kind, text, share, data))

    def note(self, text: str) -> None:
        """Tell what is worth knowing."""
        self.say("note", text)

    def progress(self, phase: Phase, text: str) -> Callable[[float], None]:
        """What is to be called with the share of a phase that is done; said when a hundredth more is."""
        whole = weight([phase])

        def tell(share: float) -> None:
            if share * whole >= self._ahead + 0.01 * whole:
                self._ahead = share * whole
                self.say("progress", text)

        return tell

    @contextmanager
    def phase(self, phase: Phase, text: str) -> Iterator[PhaseContent]:
        """A phase whose content is stored in one transaction when its block ends well."""
        name = phase.to_text()
        self._ahead = 0.0
        self.say("phase", text, phase=name)
        try:
            with self.attempt.phase(name) as content:
                yield content
        except StoreError:
            if name not in self.attempt.phases():
                raise
            self.note("another process has stored this meanwhile")
        self.done[phase] = content.data
        self._left -= weight([phase])
        self._ahead = 0.0
