"""Texts side by side in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from isokl_bench.results.traces import HIGH, LOW, Pair, Piece, Traces, depth

PAPER, FULL = (255, 247, 230), (235, 100, 52)  # the colours of a little and of much KL, as red, green, blue


def print_traces(traces: Traces, console: Console) -> None:
    """Print every pair of texts, the base model's to the left; tokens are coloured where there is colour."""
    console.print(Text.assemble((traces.title, "bold"), f"  (run {traces.attempt})"), soft_wrap=True)
    console.print(_legend() if console.color_system else "KL per token: see --html FILE")
    signs = {pair.sign for pair in traces.pairs}
    for pair in traces.pairs:
        sign = f" · {'+' if pair.sign > 0 else '−'}" if len(signs) > 1 else ""
        console.print()
        console.print(Text.assemble((f"prompt {pair.prompt}{sign}  ", "bold cyan"), pair.question))
        console.print(_columns(pair))


def colour(share: float) -> str:
    """The shade of a depth between 0 and 1, as #rrggbb."""
    mixed = (round(a + (b - a) * share) for a, b in zip(PAPER, FULL, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _columns(pair: Pair) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_edge=False, expand=True)
    table.add_column("α", justify="right", vertical="top")
    table.add_column("base", ratio=1, overflow="fold")
    table.add_column("steered", ratio=1, overflow="fold")
    for i, (alpha, pieces) in enumerate(sorted(pair.steered.items())):
        base = "(not stored)" if pair.base is None else "".join(piece.text for piece in pair.base)
        table.add_row(f"{alpha:g}", Text(base, style="dim" if i else ""), _text(pieces))
    return table


def _text(pieces: Sequence[Piece]) -> Text:
    return Text.assemble(*((piece.text, _style(depth(piece.kl))) for piece in pieces))


def _style(share: float) -> str:
    return f"#000000 on {colour(share)}" if share else ""


def _legend() -> Text:
    shades = [(" " * 3, _style(step / 6)) for step in range(1, 7)]
    return Text.assemble(f"KL per token, log scale: {LOW:g} ", *shades, f" {HIGH:g} nat")
