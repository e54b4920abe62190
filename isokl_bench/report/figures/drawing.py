"""What figures share: colours, fonts, titles, axes, and data that is kept once under a name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from isokl_bench.results.declared import unit_of
from isokl_bench.results.lines import Lines, methods_of, variants_of

# Altair's low-level classes throughout: alt.layer and alt.vconcat copy all they are given, over and over,
# which takes seconds for a figure of many panels.

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
DASHES = ([1, 0], [6, 3], [2, 2], [9, 3, 2, 3], [12, 3], [6, 2, 2, 2, 2, 2])
WIDTH = 800  # of a row of panels, in pixels
GAP = 16
Y_AXIS = 34  # pixels between a panel and its y title, the same in all, so that panels line up
PANELS = ("vconcat", "hconcat", "layer")  # what holds panels and layers in a specification
INK, PALE, FAINT, BASE = "#222222", "#6b6b6b", "#e8e8e8", "#9a9a9a"


class Data:
    """The rows of all layers by name; layers of the same rows share them."""

    def __init__(self) -> None:
        self.named: dict[str, list[dict[str, Any]]] = {}

    def unit(
        self, rows: list[dict[str, Any]], mark: Any, *, transform: Any = alt.Undefined, **encoding: Any
    ) -> Any:
        """One layer of a panel."""
        name = next((name for name, known in self.named.items() if known is rows), f"data{len(self.named)}")
        self.named[name] = rows
        data = alt.NamedData(name=name)
        return alt.UnitSpec(data=data, mark=mark, transform=transform, encoding=alt.Encoding(**encoding))


def title(text: str, *lines: str) -> Any:
    """The title of a figure, and what must be known to read it."""
    return alt.TitleParams(
        text=text,
        subtitle=list(lines),
        anchor="start",
        fontSize=15,
        subtitleFontSize=12,
        subtitleColor=PALE,
        color=INK,
        offset=12,
    )


def block_title(text: str) -> Any:
    """The title of a block of panels."""
    return alt.TitleParams(text=text, anchor="start", fontSize=13, color=INK, offset=6)


def panel_title(text: str) -> Any:
    """The title of one panel."""
    return alt.TitleParams(text=text, fontSize=12, fontWeight="normal", color=INK, offset=4)


def top_level(blocks: Sequence[Any], heading: Any, data: Data) -> dict[str, Any]:
    """The whole specification, for a page: blocks one under the other, and their data."""
    chart = alt.TopLevelVConcatSpec(
        vconcat=list(blocks), spacing=30, title=heading, background="white", padding=14, config=_config()
    )
    return {**chart.to_dict(validate=False), "$schema": alt.SCHEMA_URL, "datasets": data.named}


def still(panels: Any) -> Any:
    """The same without the layers that only show under a pointer, for an image: drawing them would take
    seconds."""
    if isinstance(panels, list):
        return [still(panel) for panel in panels if "tooltip" not in panel.get("encoding", {})]
    return {key: still(value) if key in PANELS else value for key, value in panels.items()}


def line_channels(lines: Lines, points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The encodings of a line: its method is its colour, in every figure, and its variant its dash where there are several.

    The legends name what the points have."""
    shape = {"symbolType": "stroke", "symbolOpacity": 1}
    methods, variants = methods_of(points), variants_of(points)
    colour = alt.Scale(domain=lines.methods, range=list(COLOURS[: len(lines.methods)]))
    legend = alt.Legend(**shape, columns=_columns(methods), values=methods)
    channels = {"color": alt.Color("method:N", scale=colour, legend=legend)}
    if variants:
        dash = alt.Scale(domain=lines.variants, range=list(DASHES[: len(lines.variants)]))
        shape |= {"symbolStrokeColor": INK, "symbolStrokeWidth": 2, "symbolSize": 250}
        legend = alt.Legend(**shape, columns=_columns(variants), values=variants)
        channels["strokeDash"] = alt.StrokeDash("variant:N", scale=dash, legend=legend)
    return channels


def area_channels(channels: dict[str, Any]) -> dict[str, Any]:
    """The same for an area, which has no dash."""
    return {"color": channels["color"]} | (
        {"detail": alt.Detail("variant:N")} if "strokeDash" in channels else {}
    )


def budget_level(stat: str, target: float) -> dict[str, Any]:
    """Where on an axis of KL a budget is, and its label."""
    return {"at": target, "label": f"{target:g} {unit_of(stat)} budget ({stat.removeprefix('kl_')})"}


def y_axis(title: str | None, values: Sequence[float] | None = None) -> Any:
    """Labelled where it has a title, which is in the first column; else only its grid is drawn."""
    first = title is not None
    extent = Y_AXIS if first else 0
    ticks = {} if values is None else {"values": list(values), "format": "~g"}
    return alt.Axis(
        title=title,
        labels=first,
        ticks=first,
        domain=first,
        minExtent=extent,
        maxExtent=extent,
        **ticks,
    )


def _columns(names: Sequence[str]) -> int:
    """0, which is all in one row, where that is no wider than the panels; else as many as fit side by
    side."""
    widths = [36 + 7 * len(name) for name in names]
    return 0 if sum(widths) <= WIDTH else max(1, WIDTH // max(widths))


def _config() -> Any:
    axis = alt.AxisConfig(
        gridColor=FAINT,
        domainColor=PALE,
        tickColor=PALE,
        labelColor=INK,
        titleColor=INK,
        titleFontWeight="normal",
        titleFontSize=12,
        labelFontSize=11,
    )
    legend = alt.LegendConfig(
        orient="top",
        title=None,
        labelFontSize=13,
        labelColor=INK,
        labelLimit=WIDTH,
        symbolStrokeWidth=3,
        layout=alt.ExprRef("{top: {direction: 'vertical', anchor: 'start', offset: 18, margin: 6}}"),
    )
    view = alt.ViewConfig(stroke=None)
    return alt.Config(font="Helvetica, Arial, sans-serif", view=view, axis=axis, legend=legend)
