"""The judgement in the terminal: a block for each claim, with the findings that decided it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from isokl_bench.claims.evidence import BUDGET, Evidence
from isokl_bench.claims.verdict import NOT_JUDGED, Answer, Check, Claim, Finding
from isokl_bench.results.declared import unit_of

LISTED = 8  # findings that fail a check, or cannot be told
CLOSEST = 2  # findings of a check that all pass: those that pass most narrowly
STYLES: dict[Answer, str] = {True: "green", False: "red", None: "yellow"}


def print_claims(evidence: Evidence, claims: Sequence[Claim], console: Console) -> None:
    """Print what was judged, each claim with its verdict and numbers, and how many hold."""
    dimensions = _dimensions(evidence)
    console.print("\n".join(_heading(evidence, dimensions)))
    shown = [name for name, count in dimensions.items() if count > 1 or name in ("model", "method")]
    for claim in claims:
        verdict = (claim.verdict, f"bold {STYLES[claim.answer]}")
        console.print(Text.assemble("\n", (f"{claim.id}  {claim.title}", "bold"), ": ", verdict))
        for line in (*claim.missing, *claim.lines):
            console.print(f"    {line}")
        for check in claim.checks:
            console.print(Text("\n").join(_check(check, shown)))
    count = sum(claim.answer is True for claim in claims)
    console.print(f"\n{count} of {len(claims)} claims hold.")


def _dimensions(evidence: Evidence) -> dict[str, int]:
    """How many values each part of the keys has."""
    keys = [subject.key for subject in evidence.subjects]
    names = dict.fromkeys(name for key in keys for name in key)
    return {name: len({key.get(name) for key in keys}) for name in names}


def _heading(evidence: Evidence, dimensions: dict[str, int]) -> Iterator[str]:
    counts = [f"{n} {name}s" for name, n in dimensions.items() if n > 1 and name != "layers"]
    grid = f" ({', '.join(counts)})" if counts else ""
    (stat, target), count = BUDGET, len(evidence.subjects)
    budget = f"{stat} = {target:g} {unit_of(stat)}".rstrip()
    yield f"Protocol {evidence.protocol}, budget {budget}: {count} run{'' if count == 1 else 's'}{grid}"
    left_out = [f"{n} {why}" for why, n in evidence.left_out.items() if n]
    if left_out:
        yield f"Left out: {', '.join(left_out)}"


def _check(check: Check, shown: Sequence[str]) -> Iterator[Text]:
    """The condition with its count, and the findings that decide it."""
    passing, failing, unknown = (check.of(answer) for answer in (True, False, None))
    yield Text(f"    {check.condition}: {len(passing)} of {len(check.answers)} {check.unit}")
    if not failing and not unknown:
        yield from _findings("closest", passing[:CLOSEST], shown)
    for word, findings in (("fails", failing), ("unknown", unknown), (NOT_JUDGED, check.not_judged)):
        yield from _findings(word, findings[:LISTED], shown)
        if len(findings) > LISTED:
            yield Text(f"      … and {len(findings) - LISTED} more (--json has all)", style="dim")


def _findings(word: str, findings: Sequence[Finding], shown: Sequence[str]) -> Iterator[Text]:
    labels = [_label(finding.key, shown) for finding in findings]
    width = max(map(len, labels), default=0)
    for label, finding in zip(labels, findings, strict=True):
        yield Text.assemble(
            "      ", (f"{word:<8} ", STYLES[finding.passes]), f"{label:<{width}}  {finding.text}"
        )


def _label(key: Mapping[str, Any], shown: Sequence[str]) -> str:
    """What tells a finding from the others: names as they are, the rest with what it is."""
    parts = {name: key[name] for name in shown if name in key}
    named = ("model", "behavior", "method")
    return " · ".join(str(value) if name in named else f"{name} {value}" for name, value in parts.items())
