"""Sampled texts of one run: which there are, and which KL belongs to which piece of text."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isokl_bench.results.runs import finished_runs
from isokl_registry import IsoklError, unknown

if TYPE_CHECKING:
    from isokl_db import Store

LOW, HIGH = 0.01, 10.0  # nats at which the colour of a token begins, and is deepest
_FAR = 8  # characters that may lie between the tokens as decoded alone and the text they make together


@dataclass(frozen=True)
class Piece:
    """A piece of a text with the KL of its token in nats, None where no single token wrote it."""

    text: str
    kl: float | None


@dataclass(frozen=True)
class Pair:
    """One prompt: what the base model wrote (None where that is not stored), and what the steered one did."""

    sign: int
    prompt: int
    question: str
    base: list[Piece] | None
    steered: dict[float, list[Piece]]


@dataclass(frozen=True)
class Traces:
    """The texts of one run."""

    attempt: int
    title: str
    pairs: list[Pair]


def read_traces(
    store: Store,
    run: str | None,
    filters: Mapping[str, Sequence[str]],
    prompts: Sequence[int] = (),
    alphas: Sequence[float] = (),
) -> Traces:
    """The texts of a run, or of the latest finished one that the filters let through.

    Raises IsoklError when there are none, or none at that prompt or alpha."""
    attempt = max(run.attempt for run in finished_runs(store, filters)) if run is None else store.find(run)
    names = store.rows(
        "SELECT model, behavior, method, seed, hash FROM runs WHERE attempt_id = :id", id=attempt
    )[0]
    title = f"{names['model']} · {names['behavior']} · {names['method']} · seed {names['seed']}"
    rows = store.rows(
        "SELECT t.sign, t.alpha, t.prompt, t.text, t.tokens, t.kl, p.text AS question FROM traces t "
        "LEFT JOIN prompts p ON p.config_hash = :hash AND p.split = 'holdout' AND p.position = t.prompt "
        "WHERE t.attempt_id = :id ORDER BY t.sign DESC, t.prompt, t.alpha",
        id=attempt,
        hash=names["hash"],
    )
    if not any(row["alpha"] for row in rows):
        raise IsoklError(
            f"run {attempt} ({title}) has no steered texts: it did not reach its budget, or did not finish"
        )
    _known("prompt", prompts, {row["prompt"] for row in rows})
    _known("alpha", alphas, {row["alpha"] for row in rows if row["alpha"]})
    rows = [row for row in rows if not prompts or row["prompt"] in prompts]
    rows = [row for row in rows if not alphas or row["alpha"] in (0, *alphas)]
    return Traces(attempt, title, _pairs(rows))


def align(text: str, tokens: Sequence[str], kl: Sequence[float]) -> list[Piece]:
    """Cut a text into the pieces that its tokens wrote.

    A token decoded alone may lack its leading space, or be half a character: what lies before a token that is found
    goes with it, and one that is not found shares the piece of the next, at the larger KL."""
    pieces: list[Piece] = []
    cursor, waiting = 0, -math.inf
    for token, value in zip(tokens, kl, strict=True):
        at = text.find(token, cursor, cursor + _FAR + len(token)) if token else -1
        waiting = max(waiting, value)
        if at < 0:
            continue
        pieces.append(Piece(text[cursor : at + len(token)], waiting))
        cursor, waiting = at + len(token), -math.inf
    if cursor < len(text):
        pieces.append(Piece(text[cursor:], None if waiting == -math.inf else waiting))
    return pieces


def depth(kl: float | None) -> float:
    """How deep the colour of a token is: 0 at 0.01 nat and under, 1 at 10 nat and over, logarithmic between."""
    if kl is None or kl <= LOW:
        return 0.0
    return min(1.0, math.log(kl / LOW) / math.log(HIGH / LOW))


def _pairs(rows: Sequence[Mapping[str, Any]]) -> list[Pair]:
    pairs: dict[tuple[int, int], Pair] = {}
    for row in rows:
        key = row["sign"], row["prompt"]
        pieces = align(row["text"], _list(row["tokens"]), _list(row["kl"]))
        pair = pairs.setdefault(
            key, Pair(*key, row["question"] or "", pieces if not row["alpha"] else None, {})
        )
        if row["alpha"]:
            pair.steered[row["alpha"]] = pieces
    return list(pairs.values())


def _list(value: Any) -> list[Any]:
    return list(json.loads(value) if isinstance(value, str) else value)


def _known(kind: str, wanted: Sequence[float], known: set[Any]) -> None:
    for value in wanted:
        if value not in known:
            raise IsoklError(unknown(f"{kind} of the stored texts", f"{value:g}", [f"{k:g}" for k in known]))
