"""Figure 1, the published layout: KL per token and, below it, answer mass per fork point, a column for each alpha."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
from altair.utils import schemapi

from isokl_bench.report.curves import ALIVE, LONG, SMOOTH, Block, Curve, Curves

# Altair's low-level classes throughout: alt.layer and alt.vconcat copy all they are given, over and over, which
# takes seconds for a figure of many panels.

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito
WIDTH = 800  # of a row of panels, in pixels
GAP = 16
Y_AXIS = 34  # pixels between a panel and its y title, the same in all, so that panels line up
PANELS = ("vconcat", "hconcat", "layer")  # what holds panels and layers in a specification
INK, PALE, FAINT, BASE = "#222222", "#6b6b6b", "#e8e8e8", "#9a9a9a"


def figure(curves: Curves) -> dict[str, Any]:
    """The Vega-Lite specification of Figure 1, for a page: the values show under the pointer."""
    with schemapi.debug_mode(False):  # else altair checks every object as it is made
        drawing = _Drawing(curves)
        chart = alt.TopLevelVConcatSpec(
            vconcat=[drawing.block(block) for block in curves.blocks],
            spacing=30,
            title=_title(curves),
            background="white",
            padding=14,
            config=_config(),
        )
        return {**chart.to_dict(validate=False), "$schema": alt.SCHEMA_URL, "datasets": drawing.data}


def still(panels: Any) -> Any:
    """The same without the layers that only show under a pointer, for an image: drawing them would take seconds."""
    if isinstance(panels, list):
        return [still(panel) for panel in panels if "tooltip" not in panel.get("encoding", {})]
    return {key: still(value) if key in PANELS else value for key, value in panels.items()}


def _title(curves: Curves) -> Any:
    pooled = f" of up to {curves.seeds} seeds" if curves.seeds > 1 else ""
    smoothed = f", rolling mean of {SMOOTH} tokens where there are {LONG} or more" if curves.smoothed else ""
    interval = "seeds, or prompts for a single seed" if curves.seeds > 1 else "prompts"
    return alt.TitleParams(
        text="Figure 1. Does the shift stay at its budget, and can the model still answer?",
        subtitle=[
            f"Above: median and 10–90 % band over the holdout prompts{pooled} that are still running{smoothed}.",
            f"Below: mean probability of the answer words with its 95 % interval over {interval}; grey: unsteered.",
        ],
        anchor="start",
        fontSize=15,
        subtitleFontSize=12,
        subtitleColor=PALE,
        color=INK,
        offset=12,
    )


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
        orient="top", title=None, labelFontSize=13, labelColor=INK, labelLimit=WIDTH, symbolStrokeWidth=3
    )
    return alt.Config(
        font="Helvetica, Arial, sans-serif", view=alt.ViewConfig(stroke=None), axis=axis, legend=legend
    )


class _Drawing:
    """The scales that all panels share, the panels, and their data by name."""

    def __init__(self, curves: Curves) -> None:
        self.curves = curves
        self.data: dict[str, list[dict[str, Any]]] = {}
        self.width = (WIDTH - GAP * (len(curves.alphas) - 1)) / len(curves.alphas)
        tokens = [point["token"] + 1 for block in curves.blocks for point in block.kl]
        forks = [point["fork"] for block in curves.blocks for point in block.pmass]
        self.end = max([*tokens, *forks, 1])
        self.x = alt.Scale(domain=[0, self.end], nice=False)
        self.kl_domain = kl_domain(curves.blocks)
        self.kl = alt.Scale(type="log", domain=self.kl_domain, clamp=True, nice=False)
        self.share = alt.Scale(domain=[0, 1], nice=False)
        self.colour = alt.Color(
            "series:N",
            scale=alt.Scale(domain=curves.series, range=list(COLOURS[: len(curves.series)])),
            legend=alt.Legend(symbolType="stroke", symbolOpacity=1, columns=_legend_columns(curves.series)),
        )

    def block(self, block: Block) -> Any:
        """KL above answer mass, where each is stored."""
        rows = [self._row(block, kind) for kind in ("kl", "pmass") if getattr(block, kind)]
        title = alt.TitleParams(text=block.title, anchor="start", fontSize=13, color=INK, offset=6)
        return alt.VConcatSpecGenericSpec(vconcat=rows, spacing=10, title=title)

    def _row(self, block: Block, kind: str) -> Any:
        return alt.HConcatSpecGenericSpec(
            hconcat=[self._panel(block, kind, alpha) for alpha in self.curves.alphas], spacing=GAP
        )

    def _panel(self, block: Block, kind: str, alpha: float) -> Any:
        first, last = alpha == self.curves.alphas[0], alpha == self.curves.alphas[-1]
        curve = [point for point in getattr(block, kind) if point["alpha"] == alpha]
        if kind == "pmass":
            layers = self._pmass_layers(block, curve, first, last)
            return alt.LayerSpec(layer=layers, width=self.width, height=110)
        title = alt.TitleParams(text=f"α = {alpha:g}", fontSize=12, fontWeight="normal", color=INK, offset=4)
        layers = self._kl_layers(block, curve, first, last)
        return alt.LayerSpec(layer=layers, width=self.width, height=190, title=title)

    def _kl_layers(self, block: Block, curve: Curve, first: bool, last: bool) -> list[Any]:
        axis = _y_axis("KL(steered ‖ base), nats", _decades(self.kl_domain), first)
        budgets = [
            {"at": target, "label": f"{target:g} nat budget ({stat.removeprefix('kl_')})"}
            for stat, target in block.budgets
        ]
        return [
            self._band(curve, "token", self.kl, axis),
            *self._windows(block, last),
            *self._levels(budgets, self.kl, [1, 0], last),
            *self._lines(curve, "token", "median", self.kl, axis),
        ]

    def _pmass_layers(self, block: Block, curve: Curve, first: bool, last: bool) -> list[Any]:
        axis = _y_axis("answer mass", (0, 0.5, 1), first)
        alive = [{"at": ALIVE, "label": f"{ALIVE:g}: alive"}]
        base = alt.MarkDef(type="line", color=BASE, strokeWidth=1.5)
        y = alt.Y("mean:Q", scale=self.share, axis=axis)
        return [
            self._band(curve, "fork", self.share, axis),
            *self._windows(block, False),
            *self._levels(alive, self.share, [4, 3], last),
            self._unit(block.base, base, x=self._x("fork"), y=y),
            *self._lines(curve, "fork", "mean", self.share, axis),
        ]

    def _band(self, curve: Curve, x: str, scale: Any, axis: Any) -> Any:
        mark = alt.MarkDef(
            type="area", fillOpacity=0.15, aria=False
        )  # an opacity would cost the PNG a layer each
        low = alt.Y("low:Q", scale=scale, axis=axis)
        return self._unit(curve, mark, x=self._x(x), y=low, y2=alt.Y2("high"), color=self.colour)

    def _lines(self, curve: Curve, x: str, y: str, scale: Any, axis: Any) -> list[Any]:
        points = {"size": 16, "filled": True} if x == "fork" else False
        mark = alt.MarkDef(type="line", strokeWidth=1.8, point=points, aria=False)
        place = {"x": self._x(x), "y": alt.Y(f"{y}:Q", scale=scale, axis=axis)}
        shown = [alt.Tooltip("series:N"), alt.Tooltip(f"{x}:Q")]
        shown += [alt.Tooltip(f"{field}:Q", format=".3g") for field in (y, "low", "high")]
        spot = alt.MarkDef(type="point", opacity=0, size=50)
        return [
            self._unit(curve, mark, **place, color=self.colour),
            self._unit(curve, spot, **place, tooltip=shown),
        ]

    def _levels(self, levels: list[dict[str, Any]], scale: Any, dash: list[int], labelled: bool) -> list[Any]:
        """Horizontal rules, labelled at their right end, just above."""
        y = alt.Y("at:Q", scale=scale)
        rule = alt.MarkDef(type="rule", color=INK, strokeWidth=1.2, strokeDash=dash)
        text = alt.MarkDef(type="text", align="right", baseline="bottom", dy=-2, fontSize=10.5, color=INK)
        right = alt.XDatum(self.end, scale=self.x, type="quantitative")
        label = self._unit(levels, text, x=right, y=y, text=alt.Text("label:N"))
        return [self._unit(levels, rule, y=y), *([label] if labelled else [])]

    def _windows(self, block: Block, labelled: bool) -> list[Any]:
        """Dotted vertical rules where the calibration window ends, labelled at the top."""
        ends = [{"end": n, "label": f"t = {n}", "top": self.kl_domain[1]} for n in block.windows]
        x = alt.X("end:Q", scale=self.x)
        rule = alt.MarkDef(type="rule", color=PALE, strokeDash=[2, 3])
        text = alt.MarkDef(type="text", align="left", baseline="top", dx=4, fontSize=10.5, color=PALE)
        label = self._unit(ends, text, x=x, y=alt.Y("top:Q", scale=self.kl), text=alt.Text("label:N"))
        return [self._unit(ends, rule, x=x), *([label] if labelled else [])]

    def _x(self, field: str) -> Any:
        title = {"token": "generated token", "fork": "fork point (generated token)"}[field]
        return alt.X(f"{field}:Q", scale=self.x, axis=alt.Axis(title=title, grid=False, tickCount=6))

    def _unit(self, rows: list[dict[str, Any]], mark: Any, **encoding: Any) -> Any:
        """One layer of a panel; layers of the same rows share their data."""
        name = next((name for name, known in self.data.items() if known is rows), f"data{len(self.data)}")
        self.data[name] = rows
        return alt.UnitSpec(data=alt.NamedData(name=name), mark=mark, encoding=alt.Encoding(**encoding))


def _legend_columns(series: Sequence[str]) -> int:
    """0, which is all in one row, where that is no wider than the panels; else as many as fit side by side."""
    widths = [36 + 7 * len(name) for name in series]
    return 0 if sum(widths) <= WIDTH else max(1, WIDTH // max(widths))


def kl_domain(blocks: Sequence[Block]) -> list[float]:
    """From the decade under nearly all medians, four decades under 1 nat at most, to above the highest band."""
    points = [point for block in blocks for point in block.kl]
    lows = sorted(point["median"] for point in points if point["median"] > 0)
    low = lows[len(lows) // 20] if lows else 0.01
    high = max(
        [1.0, *(point["high"] for point in points), *(t for block in blocks for _, t in block.budgets)]
    )
    return [10.0 ** min(-1, max(-4, math.floor(math.log10(low)))), high * 1.5]


def _y_axis(title: str, values: Sequence[float], first: bool) -> Any:
    """Labelled in the first column; in the others only its grid is drawn."""
    extent = Y_AXIS if first else 0
    return alt.Axis(
        title=title if first else None,
        labels=first,
        ticks=first,
        domain=first,
        values=list(values),
        format="~g",
        minExtent=extent,
        maxExtent=extent,
    )


def _decades(domain: Sequence[float]) -> list[float]:
    return [10.0**n for n in range(round(math.log10(domain[0])), math.floor(math.log10(domain[1])) + 1)]
