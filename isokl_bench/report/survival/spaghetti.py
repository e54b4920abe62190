"""The spaghetti figure: every KL trajectory a thin line, coloured by what became of its rollout."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import altair as alt
import numpy as np
from altair.utils import schemapi

from isokl_bench.report.figures.drawing import (
    COLOURS,
    GAP,
    INK,
    PALE,
    WIDTH,
    Data,
    block_title,
    budget_level,
    panel_title,
    title,
    top_level,
    y_axis,
)
from isokl_bench.report.survival.table import SurvivalTable
from isokl_bench.results.curves import FLOOR, rounded
from isokl_bench.results.declared import is_shift
from isokl_bench.results.survival import Array
from isokl_bench.results.survival_rollouts import Series
from isokl_bench.results.trajectories import LINES, Spaghetti, Trajectories

ALIVE, DEAD = "alive", "dead"
HEIGHT = 190

Rows = list[dict[str, Any]]


def spaghetti_figure(table: SurvivalTable, spaghetti: Spaghetti) -> dict[str, Any]:
    """The Vega-Lite specification: a row of panels, by alpha, for each row of Table 1."""
    with schemapi.debug_mode(False):  # else altair checks every object as it is made
        drawing = _SpaghettiPanels(table, spaghetti)
        blocks = [drawing.block(series, panels) for series, panels in spaghetti.rows]
        heading = title("Do the rollouts whose KL grows lose the answer?", *_subtitle(table, spaghetti))
        return top_level(blocks, heading, drawing.data)


def line_rows(found: Trajectories) -> Rows:
    """A row for each line that is drawn: its fate, its tokens, and its KL at them, both as lists.

    Those of the rarer fate come last, and so lie on top."""
    rows: Rows = []
    for i in found.drawn:
        running = ~np.isnan(found.kl[i])
        fate = DEAD if found.died[i] else ALIVE
        token, kl = found.token[running].tolist(), _drawable(found.kl[i, running])
        rows.append({"rollout": i, "fate": fate, "token": token, "kl": kl})
    count = Counter(row["fate"] for row in rows)
    return sorted(rows, key=lambda row: -count[row["fate"]])


def median_rows(found: Trajectories) -> Rows:
    """The median at each token where a rollout is still running."""
    median = found.median
    known = ~np.isnan(median)
    points = zip(found.token[known].tolist(), _drawable(median[known]), strict=True)
    return [{"token": token, "median": kl} for token, kl in points]


def domain(spaghetti: Spaghetti) -> list[float]:
    """From the decade under nearly all that is drawn, four decades under 1 at most, to above the highest
    line."""
    values = np.concatenate([panel.kl[panel.drawn].ravel() for panel in spaghetti.panels])
    values = values[~np.isnan(values)]
    low = math.floor(math.log10(max(FLOOR, float(np.percentile(values, 5)))))
    return [10.0 ** min(-1, max(-4, low)), max(1.0, float(values.max())) * 1.5]


def _subtitle(table: SurvivalTable, spaghetti: Spaghetti) -> list[str]:
    panels = spaghetti.panels
    width = max(panel.width for panel in panels)
    narrower = any(panel.width < width for panel in panels)
    binned = f", means of {'up to ' * narrower}{width} tokens" if width > 1 else ""
    some = f" Of each panel {LINES} lines at most are drawn, evenly spread over seeds and prompts."
    dead = f"dead: with an answer mass under {table.threshold:g} at a fork"
    lines = [
        f"A line: one rollout on a holdout prompt{binned}; {dead}.",
        f"Black: the median of all that are still running.{some * any(len(p.kl) > LINES for p in panels)}",
    ]
    if spaghetti.normalized:
        flat = sum(panel.flat for panel in panels)
        left_out = f" {flat} that have none there are left out." if flat else ""
        lines += [
            f"Each line is divided by the 95th percentile of its own KL in the calibration window.{left_out}"
        ]
    return lines


def _drawable(kl: Array) -> list[float]:
    """Where a logarithmic axis has a place for it."""
    return [rounded(value) for value in np.maximum(kl, FLOOR)]


class _SpaghettiPanels:
    """The scales that all panels share, the panels, and their data by name."""

    def __init__(self, table: SurvivalTable, spaghetti: Spaghetti) -> None:
        self.table, self.normalized = table, spaghetti.normalized
        self.data = Data()
        most = max(len(panels) for _, panels in spaghetti.rows)
        self.width = (WIDTH - GAP * (most - 1)) / most
        self.domain = domain(spaghetti)
        self.kl = alt.Scale(type="log", domain=self.domain, clamp=True, nice=False)
        self.colour = alt.Color(
            "fate:N",
            scale=alt.Scale(domain=[ALIVE, DEAD], range=list(COLOURS[:2])),
            legend=alt.Legend(symbolType="stroke", symbolOpacity=1),
        )

    def block(self, series: Series, panels: list[Trajectories]) -> Any:
        """The panels of one row of Table 1."""
        self.end = max(panel.kl.shape[1] * panel.width for panel in panels)
        self.x = alt.Scale(domain=[0, self.end], nice=False)
        words = ", ".join([series.row.first.method, *self.table.dimensions(series)])
        return alt.HConcatSpecGenericSpec(
            hconcat=[self._panel(series, panel, first=panel is panels[0]) for panel in panels],
            spacing=GAP,
            title=block_title(" · ".join([*series.row.first.pair, words])),
        )

    def _panel(self, series: Series, found: Trajectories, first: bool) -> Any:
        heading = panel_title(f"α = {found.alpha:g}: {int(found.died.sum())} of {len(found.died)} dead")
        layers = [*self._lines(found, first), *self._budget(series, first), *self._window(series)]
        return alt.LayerSpec(layer=layers, width=self.width, height=HEIGHT, title=heading)

    def _lines(self, found: Trajectories, first: bool) -> list[Any]:
        """The single lines, the median over them, and a place under the pointer for its values."""
        thin = alt.MarkDef(type="line", strokeWidth=0.6, strokeOpacity=0.4, aria=False)
        thick = alt.MarkDef(type="line", strokeWidth=1.6, color="black", aria=False)
        spot = alt.MarkDef(type="point", opacity=0, size=50)
        axis = self._y_axis(first)
        x = alt.X("token:Q", scale=self.x, axis=alt.Axis(title="generated token", grid=False, tickCount=5))
        kl, median = (alt.Y(f"{name}:Q", scale=self.kl, axis=axis) for name in ("kl", "median"))
        shown = [alt.Tooltip("token:Q"), alt.Tooltip("median:Q", format=".3g")]
        single = {"x": x, "y": kl, "color": self.colour, "detail": alt.Detail("rollout:N")}
        rows, flatten = median_rows(found), [alt.FlattenTransform(flatten=["token", "kl"])]
        return [
            self.data.unit(line_rows(found), thin, transform=flatten, **single),
            self.data.unit(rows, thick, x=x, y=median),
            self.data.unit(rows, spot, x=x, y=median, tooltip=shown),
        ]

    def _budget(self, series: Series, labelled: bool) -> list[Any]:
        """A rule where the budget is, or 1 where lines are normalised."""
        run = series.row.first
        if self.normalized:
            rows = [{"at": 1.0, "label": "its own early p95"}]
        elif is_shift(run.stat):
            rows = [budget_level(run.stat, run.target)]
        else:
            return []
        text = {"type": "text", "align": "right", "baseline": "bottom", "dy": -2, "fontSize": 10.5}
        halo = alt.MarkDef(**text, stroke="white", strokeWidth=3)  # lines pass under the label
        y = alt.Y("at:Q", scale=self.kl)
        place = {
            "x": alt.XDatum(self.end, scale=self.x, type="quantitative"),
            "y": y,
            "text": alt.Text("label:N"),
        }
        under, over = (self.data.unit(rows, mark, **place) for mark in (halo, alt.MarkDef(**text, color=INK)))
        rule = self.data.unit(rows, alt.MarkDef(type="rule", color=INK, strokeWidth=1.2), y=y)
        return [under, rule, over] if labelled else [rule]

    def _window(self, series: Series) -> list[Any]:
        """A dotted rule where the calibration window ends."""
        window = series.row.first.window
        rule = alt.MarkDef(type="rule", color=PALE, strokeDash=[2, 3])
        return [self.data.unit([{"end": window}], rule, x=alt.X("end:Q", scale=self.x))] if window else []

    def _y_axis(self, first: bool) -> Any:
        name = "KL / its early p95" if self.normalized else "KL(steered ‖ base), nats"
        decades = range(round(math.log10(self.domain[0])), math.floor(math.log10(self.domain[1])) + 1)
        return y_axis(name if first else None, [10.0**n for n in decades])
