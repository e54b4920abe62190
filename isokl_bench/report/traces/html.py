"""Texts side by side as a page that needs nothing but itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from isokl_bench.report.traces.terminal import colour
from isokl_bench.results.traces import HIGH, LOW, Pair, Piece, Traces, depth

_STYLE = """
body { font: 15px/1.55 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto; max-width: 90rem;
  padding: 0 1.5rem }
h1 { font-size: 1.25rem; margin: 0 0 .25rem } h2 { font-size: 1rem; margin: 0 0 .6rem } p { margin: 0 0 1.2rem; color: #555 }
section { border-top: 1px solid #ddd; padding: 1.2rem 0; overflow-x: auto }
.texts { display: grid; grid-auto-flow: column; grid-auto-columns: minmax(15rem, 1fr); gap: 1.25rem }
h3 { font-size: .85rem; font-weight: 600; color: #666; margin: 0 0 .3rem }
.text { white-space: pre-wrap; overflow-wrap: anywhere }
.scale { display: inline-block; width: 9rem; height: .8em; margin: 0 .4em; vertical-align: -.05em }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
<h1>{title}</h1>
<p>Run {attempt}. Texts sampled at temperature 1. The shade of a token is its KL(steered ‖ base), log scale: {low:g}
<span class="scale" style="background: linear-gradient(to right, {first}, {last})"></span> {high:g} nat;
the number is under the pointer.</p>
{sections}
</html>
"""


def traces_page(traces: Traces) -> str:
    """The page."""
    signs = len({pair.sign for pair in traces.pairs}) > 1
    return _PAGE.format(
        title=escape(traces.title),
        style=_STYLE,
        attempt=traces.attempt,
        low=LOW,
        high=HIGH,
        first=colour(0),
        last=colour(1),
        sections="\n".join(_section(pair, signs) for pair in traces.pairs),
    )


def _section(pair: Pair, signs: bool) -> str:
    sign = f" ({'+' if pair.sign > 0 else '−'})" if signs else ""
    base = [_column("base", pair.base)] if pair.base is not None else []
    columns = base + [_column(f"α = {alpha:g}", pieces) for alpha, pieces in sorted(pair.steered.items())]
    heading = f"<h2>Prompt {pair.prompt}{sign}: {escape(pair.question)}</h2>"
    return f'<section>{heading}<div class="texts">{"".join(columns)}</div></section>'


def _column(title: str, pieces: Sequence[Piece]) -> str:
    return f'<div><h3>{title}</h3><div class="text">{"".join(map(_span, pieces))}</div></div>'


def _span(piece: Piece) -> str:
    share, text = depth(piece.kl), escape(piece.text)
    if piece.kl is None:
        return text
    shade = f' style="background: {colour(share)}"' if share else ""
    return f'<span title="{piece.kl:.3g} nat"{shade}>{text}</span>'
