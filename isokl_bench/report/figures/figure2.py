"""Figure 2, what a nat buys: effect against measured KL, a row for each model and behavior, a column for each effect."""

from __future__ import annotations

from typing import Any

import altair as alt
from altair.utils import schemapi

from isokl_bench.report.figures.drawing import (
    GAP,
    INK,
    PALE,
    WIDTH,
    Data,
    block_title,
    line_channels,
    panel_title,
    title,
    top_level,
    y_axis,
)
from isokl_bench.results.curves import Points
from isokl_bench.results.declared import Measure, plural, unit_of
from isokl_bench.results.responses import AXIS, DoseResponse, ResponseBlock

LINEAR = 0.1  # nats; up to about here the x axis is linear, and logarithmic beyond
TICKS = (0, 0.1, 0.3, 1, 3, 10, 30, 100)
SHAPES = ("triangle-up", "square", "triangle-down", "diamond", "triangle-right", "triangle-left")
SIDE = 50  # pixels for the y axis of a panel


def response_figure(found: DoseResponse) -> dict[str, Any]:
    """The Vega-Lite specification of Figure 2, for a page: the values show under the pointer."""
    with schemapi.debug_mode(False):  # else altair checks every object as it is made
        drawing = _ResponsePanels(found)
        return top_level([drawing.block(block) for block in found.blocks], _title(found), drawing.data)


def _title(found: DoseResponse) -> Any:
    several = max(found.seeds) > 1
    prompts = f"{_range(found.prompts)} holdout prompts"
    means = f"{_range(found.seeds)} seeds of {prompts}" if several else prompts
    bars = (
        "seeds" if min(found.seeds) > 1 else "seeds, or prompts for a single seed" if several else "prompts"
    )
    return title(
        "Figure 2. What does a nat buy?",
        f"{_what(found)}, above 0 towards the behavior's positive side,",
        f"against {AXIS} as measured on the holdout prompts, within the calibration window, at each alpha.",
        f"Means over {means}, bars: 95 % intervals over {bars}; filled circles: α = 1, the calibrated dose.",
    )


def _what(found: DoseResponse) -> str:
    """The first effect as its metric defines it."""
    column = next(iter(found.effects.values())).column
    return f"Change of {column.note or column.heading}"


def _range(counts: set[int]) -> str:
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


class _ResponsePanels:
    """The scales that all panels share, the panels, and their data by name."""

    def __init__(self, found: DoseResponse) -> None:
        self.found = found
        self.data = Data()
        self.width = (WIDTH - SIDE - GAP) / 2
        points = [point for block in found.blocks for curve in block.effects.values() for point in curve]
        budgets = [budget for block in found.blocks for budget in block.budgets]
        self.end = 1.1 * max([1.0, *budgets, *(point["kl_high"] for point in points)])
        self.x = alt.Scale(type="symlog", constant=LINEAR, domain=[0, self.end], nice=False)
        self.channels = line_channels(found.lines, points)
        others = [alpha for alpha in found.alphas if alpha != 1]
        self.shape = alt.Shape(
            "alpha:N",
            scale=alt.Scale(domain=others, range=[SHAPES[i % len(SHAPES)] for i in range(len(others))]),
            legend=alt.Legend(labelExpr="'α = ' + datum.label", symbolStrokeColor=INK, symbolStrokeWidth=1.3),
        )

    def block(self, block: ResponseBlock) -> Any:
        """The effects of one model and behavior, two side by side."""
        there = [(name, effect) for name, effect in self.found.effects.items() if name in block.effects]
        rows = [
            alt.HConcatSpecGenericSpec(
                hconcat=[self._panel(block, *one) for one in there[i : i + 2]], spacing=GAP
            )
            for i in range(0, len(there), 2)
        ]
        return alt.VConcatSpecGenericSpec(vconcat=rows, spacing=10, title=block_title(block.title))

    def _panel(self, block: ResponseBlock, name: str, effect: Measure) -> Any:
        column = effect.column
        axis = ", ".join(filter(None, [column.heading, plural(column.unit)]))
        layers = self._layers(block, block.effects[name], axis)
        heading = panel_title(column.when or column.heading)
        return alt.LayerSpec(layer=layers, width=self.width, height=190, title=heading)

    def _layers(self, block: ResponseBlock, curve: Points, axis: str) -> list[Any]:
        x = self._x("kl")
        y = alt.Y("mean:Q", axis=y_axis(axis))
        colour = self.channels["color"]
        steered = [point for point in curve if point["alpha"]]
        others = [point for point in steered if point["alpha"] != 1]
        bar = alt.MarkDef(type="rule", strokeWidth=1, aria=False)
        line = alt.MarkDef(type="line", strokeWidth=1.6, aria=False)
        hollow = alt.MarkDef(type="point", filled=False, size=34, strokeWidth=1.3, opacity=1, aria=False)
        full = alt.MarkDef(type="point", filled=True, size=60, opacity=1, aria=False)
        spot = alt.MarkDef(type="point", opacity=0, size=80)
        order = alt.Order("alpha:Q")
        unit = self.data.unit
        return [
            *self._budgets(block),
            unit(steered, bar, x=x, y=alt.Y("low:Q"), y2=alt.Y2("high"), color=colour),
            unit(steered, bar, x=self._x("kl_low"), x2=alt.X2("kl_high"), y=y, color=colour),
            unit(curve, line, x=x, y=y, order=order, **self.channels),
            *(
                [unit(others, hollow, x=x, y=y, color=colour, shape=self.shape)]
                if self.found.alphas != [1]
                else []
            ),
            unit([p for p in steered if p["alpha"] == 1], full, x=x, y=y, color=colour),
            unit(steered, spot, x=x, y=y, tooltip=self._tooltips()),
        ]

    def _budgets(self, block: ResponseBlock) -> list[Any]:
        """Vertical rules at the budgets, labelled at the top."""
        rows = [{"at": budget, "label": f"{budget:g} {unit_of(AXIS)} budget"} for budget in block.budgets]
        rule = alt.MarkDef(type="rule", color=INK, strokeWidth=1.2)
        text = alt.MarkDef(type="text", align="right", baseline="top", dx=-4, fontSize=10.5, color=PALE, y=2)
        zero = alt.MarkDef(type="rule", color=PALE, strokeWidth=1)
        return [
            self.data.unit(rows, rule, x=self._x("at")),
            self.data.unit(rows, text, x=self._x("at"), text=alt.Text("label:N")),
            self.data.unit([{}], zero, y=alt.YDatum(0)),
        ]

    def _x(self, field: str) -> Any:
        title = f"measured {AXIS}, {plural(unit_of(AXIS))}"
        axis = alt.Axis(title=title, values=[t for t in TICKS if t <= self.end], format="~g")
        return alt.X(f"{field}:Q", scale=self.x, axis=axis)

    def _tooltips(self) -> list[Any]:
        names = ("method:N", *["variant:N"] * ("strokeDash" in self.channels), "alpha:Q")
        numbers = ("kl", "kl_low", "kl_high", "mean", "low", "high")
        return [
            *(alt.Tooltip(name) for name in names),
            *(alt.Tooltip(f"{name}:Q", format=".3g") for name in numbers),
            alt.Tooltip("prompts:Q"),
            alt.Tooltip("seeds:Q"),
        ]
