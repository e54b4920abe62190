"""What a verdict is made of: cells that pass, fail or cannot be told, counted with a third answer for the last."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Answer = bool | None  # None: it cannot be told from what is stored
VERDICTS: dict[Answer, str] = {True: "holds", False: "fails", None: "not enough runs"}
NOT_JUDGED = "cannot be judged"  # not for want of runs, but for what was measured with them


@dataclass(frozen=True)
class Cell:
    """What is asked of one run, row of Table 1, model or method, and the answer.

    key: which one it is, by the names of its dimensions. values: the numbers, for --json. text: the same in words, or
    what is missing where `passes` is None. margin: how far it is from failing, negative where it fails. judged: False
    where what it was measured with is at fault: then it decides nothing."""

    key: Mapping[str, Any]
    values: Mapping[str, Any]
    text: str
    passes: Answer
    margin: float = 0.0
    judged: bool = True


@dataclass(frozen=True)
class Check:
    """One condition of a claim, asked of every cell. unit: what a cell is, in the plural."""

    condition: str
    unit: str
    cells: Sequence[Cell]

    @property
    def answers(self) -> list[Answer]:
        """Of each cell that is judged."""
        return [cell.passes for cell in self.cells if cell.judged]

    @property
    def not_judged(self) -> list[Cell]:
        """The cells that cannot be judged."""
        return [cell for cell in self.cells if not cell.judged]

    def of(self, answer: Answer) -> list[Cell]:
        """The judged cells with this answer, those first that fail most clearly or pass most narrowly."""
        found = (cell for cell in self.cells if cell.judged and cell.passes is answer)
        return sorted(found, key=lambda cell: cell.margin)


@dataclass(frozen=True)
class Claim:
    """A claim, the answer, and what led to it. missing: runs that it needs beyond those that there are."""

    id: str
    title: str
    answer: Answer
    checks: Sequence[Check]
    lines: Sequence[str] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)
    missing: Sequence[str] = ()

    @classmethod
    def of_all(cls, id: str, title: str, *checks: Check, **more: Any) -> Claim:
        """A claim that holds when every cell passes each check."""
        return cls(id, title, every([every(check.answers) for check in checks]), checks, **more)

    @property
    def verdict(self) -> str:
        """The answer in words."""
        if self.answer is None and any(check.not_judged and not check.answers for check in self.checks):
            return NOT_JUDGED
        return VERDICTS[self.answer]


def at_least(count: int, answers: Collection[Answer]) -> Answer:
    """Whether so many answers are yes: told as soon as the open ones cannot change it; of no answers, nothing is."""
    yes, still_open = (sum(answer is kind for answer in answers) for kind in (True, None))
    if not answers or yes < count <= yes + still_open:
        return None
    return yes >= count


def every(answers: Collection[Answer]) -> Answer:
    """Whether all answers are yes."""
    return at_least(len(answers), answers)


def two_thirds(answers: Collection[Answer]) -> Answer:
    """Whether at least two thirds of the answers are yes."""
    return at_least(-(-2 * len(answers) // 3), answers)
