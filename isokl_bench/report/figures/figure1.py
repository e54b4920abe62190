"""Figure 1, the published layout: KL per token and, below it, answer mass per fork point, a column for each alpha."""

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
    line_channels,
    panel_title,
    title,
    top_level,
    y_axis,
)
from isokl_bench.results.curves import ALIVE, LONG, SMOOTH, Block, Curve, Curves


def figure(curves: Curves) -> dict[str, Any]:
    """The Vega-Lite specification of Figure 1, for a page: the values show under the pointer."""
    with schemapi.debug_mode(False):  # else altair checks every object as it is made
        drawing = _Drawing(curves)
        return top_level([drawing.block(block) for block in curves.blocks], _title(curves), drawing.data)


def _title(curves: Curves) -> Any:
    bands = {point["over"] for block in curves.blocks for point in block.kl}
    lines = []
    if "seeds" in bands:
        lines += ["Above: median over seeds of the median holdout prompt of each; band: range over seeds."]
    if "prompts" in bands:
        of_one = "With one seed: " if "seeds" in bands else "Above: "
        lines += [f"{of_one}median and 10–90 % band over the holdout prompts that are still running."]
    if over := {point["over"] for block in curves.blocks for point in block.pmass}:
        interval = "seeds, or prompts for a single seed" if len(over) > 1 else over.pop()
        lines += [
            f"Below: mean probability of the answer words, 95 % interval over {interval}; grey: unsteered."
        ]
    smoothed = [f"KL: rolling mean of {SMOOTH} tokens where there are {LONG} or more."] * curves.smoothed
    dotted = ["Dotted: where the calibration windows end."] * bool(curves.windows)
    lines += [" ".join([*smoothed, *dotted])] if smoothed or dotted else []
    return title("Figure 1. Does the shift stay at its budget, and can the model still answer?", *lines)


class _Drawing:
    """The scales that all panels share, the panels, and their data by name."""

    def __init__(self, curves: Curves) -> None:
        self.curves = curves
        self.data = Data()
        self.width = (WIDTH - GAP * (len(curves.alphas) - 1)) / len(curves.alphas)
        tokens = [point["token"] + 1 for block in curves.blocks for point in block.kl]
        forks = [point["fork"] for block in curves.blocks for point in block.pmass]
        self.end = max([*tokens, *forks, 1])
        self.x = alt.Scale(domain=[0, self.end], nice=False)
        self.kl_domain = kl_domain(curves.blocks)
        self.kl = alt.Scale(type="log", domain=self.kl_domain, clamp=True, nice=False)
        self.share = alt.Scale(domain=[0, 1], nice=False)
        self.channels = line_channels(curves.series, curves.windows)

    def block(self, block: Block) -> Any:
        """KL above answer mass, where each is stored."""
        rows = [self._row(block, kind) for kind in ("kl", "pmass") if getattr(block, kind)]
        return alt.VConcatSpecGenericSpec(vconcat=rows, spacing=10, title=block_title(block.title))

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
        layers = self._kl_layers(block, curve, first, last)
        return alt.LayerSpec(layer=layers, width=self.width, height=190, title=panel_title(f"α = {alpha:g}"))

    def _kl_layers(self, block: Block, curve: Curve, first: bool, last: bool) -> list[Any]:
        axis = y_axis("KL(steered ‖ base), nats" if first else None, _decades(self.kl_domain))
        budgets = [
            {"at": target, "label": f"{target:g} nat budget ({stat.removeprefix('kl_')})"}
            for stat, target in block.budgets
        ]
        return [
            self._band(curve, "token", self.kl, axis),
            *self._ends(block, last),
            *self._levels(budgets, self.kl, [1, 0], last),
            *self._lines(curve, "token", "median", self.kl, axis),
        ]

    def _pmass_layers(self, block: Block, curve: Curve, first: bool, last: bool) -> list[Any]:
        axis = y_axis("answer mass" if first else None, (0, 0.5, 1))
        alive = [{"at": ALIVE, "label": f"{ALIVE:g}: alive"}]
        base = alt.MarkDef(type="line", color=BASE, strokeWidth=1.5)
        y = alt.Y("mean:Q", scale=self.share, axis=axis)
        return [
            self._band(curve, "fork", self.share, axis),
            *self._ends(block, False),
            *self._levels(alive, self.share, [4, 3], last),
            self.data.unit(block.base, base, x=self._x("fork"), y=y),
            *self._lines(curve, "fork", "mean", self.share, axis),
        ]

    def _band(self, curve: Curve, x: str, scale: Any, axis: Any) -> Any:
        mark = alt.MarkDef(
            type="area", fillOpacity=0.15, aria=False
        )  # an opacity would cost the PNG a layer each
        low = alt.Y("low:Q", scale=scale, axis=axis)
        return self.data.unit(
            curve, mark, x=self._x(x), y=low, y2=alt.Y2("high"), **area_channels(self.channels)
        )

    def _lines(self, curve: Curve, x: str, y: str, scale: Any, axis: Any) -> list[Any]:
        mark = alt.MarkDef(type="line", strokeWidth=1.8, aria=False)
        dot = alt.MarkDef(type="point", size=16, filled=True, opacity=1, aria=False)
        place = {"x": self._x(x), "y": alt.Y(f"{y}:Q", scale=scale, axis=axis)}
        shown = [
            alt.Tooltip(f"{name}:N") for name in ("series", *(["window"] if self.curves.windows else []))
        ]
        shown += [alt.Tooltip(f"{x}:Q")]
        shown += [alt.Tooltip(f"{field}:Q", format=".3g") for field in (y, "low", "high")]
        shown += [alt.Tooltip("n:Q"), alt.Tooltip("over:N", title="band over")] if x == "token" else []
        spot = alt.MarkDef(type="point", opacity=0, size=50)
        dots = [self.data.unit(curve, dot, **place, color=self.channels["color"])] if x == "fork" else []
        return [
            self.data.unit(curve, mark, **place, **self.channels),
            *dots,
            self.data.unit(curve, spot, **place, tooltip=shown),
        ]

    def _levels(self, levels: list[dict[str, Any]], scale: Any, dash: list[int], labelled: bool) -> list[Any]:
        """Horizontal rules, labelled at their right end, just above."""
        y = alt.Y("at:Q", scale=scale)
        rule = alt.MarkDef(type="rule", color=INK, strokeWidth=1.2, strokeDash=dash)
        text = alt.MarkDef(type="text", align="right", baseline="bottom", dy=-2, fontSize=10.5, color=INK)
        right = alt.XDatum(self.end, scale=self.x, type="quantitative")
        label = self.data.unit(levels, text, x=right, y=y, text=alt.Text("label:N"))
        return [self.data.unit(levels, rule, y=y), *([label] if labelled else [])]

    def _ends(self, block: Block, labelled: bool) -> list[Any]:
        """Dotted vertical rules where a calibration window ends, labelled at the top."""
        ends = [{"end": n, "label": f"t = {n}", "top": self.kl_domain[1]} for n in block.ends]
        x = alt.X("end:Q", scale=self.x)
        rule = alt.MarkDef(type="rule", color=PALE, strokeDash=[2, 3])
        text = alt.MarkDef(type="text", align="left", baseline="top", dx=4, fontSize=10.5, color=PALE)
        label = self.data.unit(ends, text, x=x, y=alt.Y("top:Q", scale=self.kl), text=alt.Text("label:N"))
        return [self.data.unit(ends, rule, x=x), *([label] if labelled else [])]

    def _x(self, field: str) -> Any:
        title = {"token": "generated token", "fork": "fork point (generated token)"}[field]
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
