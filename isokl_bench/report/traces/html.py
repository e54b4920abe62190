"""Texts side by side as a page that needs nothing but itself."""

from __future__ import annotations

from isokl_bench.report.pages import render
from isokl_bench.report.traces.terminal import colour
from isokl_bench.results.traces import HIGH, LOW, Traces, depth


def traces_page(traces: Traces) -> str:
    """The page."""
    signed = len({pair.sign for pair in traces.pairs}) > 1
    return render("traces.html", traces=traces, signed=signed, low=LOW, high=HIGH, colour=colour, depth=depth)
