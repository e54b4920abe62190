"""What a verdict is made of: findings that pass, fail or cannot be told, counted with a third answer for the last."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Answer = bool | None  # None: it cannot be told from what is stored
VERDICTS: dict[Answer, str] = {True: "holds", False: "fails", None: "not enough runs"}
NOT_JUDGED = "cannot be judged"  # not for want of runs, but for what was measured with them


@dataclass(frozen=True)
class Finding:
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
    """One condition of a claim, asked of every finding. unit: what a finding is, in the plural."""

    condition: str
    unit: str
    findings: Sequence[Finding]

    @property
    def answers(self) -> list[Answer]:
        """Of each finding that is judged."""
        return [finding.passes for finding in self.findings if finding.judged]

    @property
    def not_judged(self) -> list[Finding]:
        """The findings that cannot be judged."""
        return [finding for finding in self.findings if not finding.judged]

    def of(self, answer: Answer) -> list[Finding]:
        """The judged findings with this answer, those first that fail most clearly or pass most narrowly."""
        found = (finding for finding in self.findings if finding.judged and finding.passes is answer)
        return sorted(found, key=lambda finding: finding.margin)


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
        """A claim that holds when every finding passes each check."""
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
