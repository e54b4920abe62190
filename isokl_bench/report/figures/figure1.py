"""Figure 1, the published layout: KL per token and, below it, every other declared curve, a column for each alpha."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
from altair.utils import schemapi

from isokl_bench.report.figures.drawing import (
    BASE,
    GAP,
    INK,
    PALE,
    WIDTH,
    Data,
    area_channels,
    block_title,
    budget_level,
    line_channels,
    panel_title,
    title,
    top_level,
    y_axis,
)
from isokl_bench.results.curves import LONG, SMOOTH, Block, Curves, Lower, Points, of_block
from isokl_bench.results.declared import plural


def figure(curves: Curves) -> dict[str, Any]:
    """The Vega-Lite specification of Figure 1, for a page: the values show under the pointer."""
    with schemapi.debug_mode(False):  # else altair checks every object as it is made
        drawing = _CurvePanels(curves)
        return top_level([drawing.block(block) for block in curves.blocks], _title(curves), drawing.data)


def _title(curves: Curves) -> Any:
    bands = {point["over"] for block in curves.blocks for point in block.kl}
    lines = []
    if "seeds" in bands:
        lines += ["Above: median over seeds of the median holdout prompt of each; band: range over seeds."]
    if "prompts" in bands:
        of_one = "With one seed: " if "seeds" in bands else "Above: "
        lines += [f"{of_one}median and 10–90 % band over the holdout prompts that are still running."]
    lower = [lower for block in curves.blocks for lower in block.lower]
    if over := {point["over"] for one in lower for point in one.points}:
        interval = "seeds, or prompts for a single seed" if len(over) > 1 else over.pop()
        what = "; ".join(dict.fromkeys(one.curve.note or one.curve.heading for one in lower))
        lines += [f"Below: {what}, 95 % interval over {interval}; grey: unsteered."]
    smoothed = [f"KL: rolling mean of {SMOOTH} tokens where there are {LONG} or more."] * curves.smoothed
    dotted = ["Dotted: where the calibration windows end."] * any(
        len(block.ends) > 1 for block in curves.blocks
    )
    lines += [" ".join([*smoothed, *dotted])] if smoothed or dotted else []
    return title("Figure 1. Does the shift stay at its budget, and can the model still answer?", *lines)


class _CurvePanels:
    """The scales that all panels share, the panels, and their data by name."""

    def __init__(self, curves: Curves) -> None:
        self.curves = curves
        self.data = Data()
        self.width = (WIDTH - GAP * (len(curves.alphas) - 1)) / len(curves.alphas)
        points = [point for block in curves.blocks for drawn in of_block(block) for point in drawn]
        self.end = max([*(p["token"] + 1 if "token" in p else p["position"] for p in points), 1])
        self.x = alt.Scale(domain=[0, self.end], nice=False)
        self.kl_domain = kl_domain(curves.blocks)
        self.kl = alt.Scale(type="log", domain=self.kl_domain, clamp=True, nice=False)
        self.channels = line_channels(curves.lines, points)
        self.has_variants = "strokeDash" in self.channels

    def block(self, block: Block) -> Any:
        """KL above the other curves, where each is stored."""
        rows, above = [], list[float]()
        for lower in ([None] if block.kl else []) + block.lower:
            points = lower.points if lower else block.kl
            alphas = sorted({point["alpha"] for point in points})
            rows.append(self._row(block, lower, alphas, titled=alphas != above))
            above = alphas
        return alt.VConcatSpecGenericSpec(vconcat=rows, spacing=10, title=block_title(block.title))

    def _row(self, block: Block, lower: Lower | None, alphas: Sequence[float], titled: bool) -> Any:
        """A panel for each alpha that has points, with its title where there is none above it."""
        panels = []
        for alpha in alphas:
            place = alpha == alphas[0], alpha == alphas[-1]
            if lower:
                points = [point for point in lower.points if point["alpha"] == alpha]
                layers = self._lower_layers(block, lower, points, *place)
            else:
                points = [point for point in block.kl if point["alpha"] == alpha]
                layers = self._kl_layers(block, points, *place)
            heading = {"title": panel_title(f"α = {alpha:g}")} if titled else {}
            height = 110 if lower else 190
            panels.append(alt.LayerSpec(layer=layers, width=self.width, height=height, **heading))
        return alt.HConcatSpecGenericSpec(hconcat=panels, spacing=GAP)

    def _kl_layers(self, block: Block, points: Points, first: bool, last: bool) -> list[Any]:
        along = "token", "generated token"
        axis = y_axis("KL(steered ‖ base), nats" if first else None, _decades(self.kl_domain))
        budgets = [budget_level(stat, target) for stat, target in block.budgets]
        return [
            self._band(points, along, self.kl, axis),
            *self._ends(block, labelled=last),
            *self._levels(budgets, self.kl, [1, 0], last),
            *self._lines(points, along, "median", self.kl, axis),
        ]

    def _lower_layers(self, block: Block, lower: Lower, points: Points, first: bool, last: bool) -> list[Any]:
        curve = lower.curve
        name = ", ".join(filter(None, [curve.heading, plural(curve.unit)]))
        ticks = (curve.ends[0], sum(curve.ends) / 2, curve.ends[1]) if curve.ends else None
        axis = y_axis(name if first else None, ticks)
        domain = list(curve.ends) if curve.ends else _span(lower)
        scale = alt.Scale(domain=domain, clamp=True, nice=not curve.ends)
        alive = [] if curve.alive is None else [{"at": curve.alive, "label": f"{curve.alive:g}: alive"}]
        base = alt.MarkDef(type="line", color=BASE, strokeWidth=1.5)
        y = alt.Y("mean:Q", scale=scale, axis=axis)
        along = "position", curve.along
        return [
            self._band(points, along, scale, axis),
            *self._ends(block),
            *self._levels(alive, scale, [4, 3], last),
            self.data.unit(lower.base, base, x=self._x(*along), y=y),
            *self._lines(points, along, "mean", scale, axis),
        ]

    def _band(self, points: Points, along: tuple[str, str], scale: Any, axis: Any) -> Any:
        mark = alt.MarkDef(type="area", fillOpacity=0.15, aria=False)  # an opacity costs the PNG a layer each
        low = alt.Y("low:Q", scale=scale, axis=axis)
        return self.data.unit(
            points, mark, x=self._x(*along), y=low, y2=alt.Y2("high"), **area_channels(self.channels)
        )

    def _lines(self, points: Points, along: tuple[str, str], y: str, scale: Any, axis: Any) -> list[Any]:
        mark = alt.MarkDef(type="line", strokeWidth=1.8, aria=False)
        dot = alt.MarkDef(type="point", size=16, filled=True, opacity=1, aria=False)
        x, is_kl = along[0], y == "median"
        place = {"x": self._x(*along), "y": alt.Y(f"{y}:Q", scale=scale, axis=axis)}
        shown = [alt.Tooltip(f"{name}:N") for name in ("method", *["variant"] * self.has_variants)]
        shown += [alt.Tooltip(f"{x}:Q", title=along[1])]
        shown += [alt.Tooltip(f"{field}:Q", format=".3g") for field in (y, "low", "high")]
        shown += [alt.Tooltip("n:Q"), alt.Tooltip("over:N", title="band over")] if is_kl else []
        spot = alt.MarkDef(type="point", opacity=0, size=50)
        dots = [] if is_kl else [self.data.unit(points, dot, **place, color=self.channels["color"])]
        return [
            self.data.unit(points, mark, **place, **self.channels),
            *dots,
            self.data.unit(points, spot, **place, tooltip=shown),
        ]

    def _levels(self, levels: list[dict[str, Any]], scale: Any, dash: list[int], labelled: bool) -> list[Any]:
        """Horizontal rules, labelled at their right end, just above."""
        y = alt.Y("at:Q", scale=scale)
        rule = alt.MarkDef(type="rule", color=INK, strokeWidth=1.2, strokeDash=dash)
        text = alt.MarkDef(type="text", align="right", baseline="bottom", dy=-2, fontSize=10.5, color=INK)
        right = alt.XDatum(self.end, scale=self.x, type="quantitative")
        label = self.data.unit(levels, text, x=right, y=y, text=alt.Text("label:N"))
        return [self.data.unit(levels, rule, y=y), *([label] if labelled else [])]

    def _ends(self, block: Block, labelled: bool = False) -> list[Any]:
        """Dotted vertical rules where a calibration window ends, labelled at the top."""
        ends = [{"end": n, "label": f"t = {n}", "top": self.kl_domain[1]} for n in block.ends]
        x = alt.X("end:Q", scale=self.x)
        rule = alt.MarkDef(type="rule", color=PALE, strokeDash=[2, 3])
        text = alt.MarkDef(type="text", align="left", baseline="top", dx=4, fontSize=10.5, color=PALE)
        label = self.data.unit(ends, text, x=x, y=alt.Y("top:Q", scale=self.kl), text=alt.Text("label:N"))
        return [self.data.unit(ends, rule, x=x), *([label] if labelled else [])]

    def _x(self, field: str, title: str) -> Any:
        return alt.X(f"{field}:Q", scale=self.x, axis=alt.Axis(title=title, grid=False, tickCount=6))


def kl_domain(blocks: Sequence[Block]) -> list[float]:
    """From the decade under nearly all medians, four decades under 1 nat at most, to above the highest band."""
    points = [point for block in blocks for point in block.kl]
    lows = sorted(point["median"] for point in points if point["median"] > 0)
    low = lows[len(lows) // 20] if lows else 0.01
    high = max(
        [1.0, *(point["high"] for point in points), *(t for block in blocks for _, t in block.budgets)]
    )
    return [10.0 ** min(-1, max(-4, math.floor(math.log10(low)))), high * 1.5]


def _decades(domain: Sequence[float]) -> list[float]:
    return [10.0**n for n in range(round(math.log10(domain[0])), math.floor(math.log10(domain[1])) + 1)]


def _span(lower: Lower) -> list[float]:
    """All means, with room for their intervals; what is wider, of few prompts, is cut."""
    means = [point["mean"] for point in (*lower.points, *lower.base)]
    room = (max(means) - min(means)) / 2 or 1.0
    return [min(means) - room, max(means) + room]
