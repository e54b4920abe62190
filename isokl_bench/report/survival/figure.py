"""The survival figure: a Kaplan–Meier curve for each alpha, and under it how many rollouts are still at
risk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import altair as alt
import numpy as np
from altair.utils import schemapi

from isokl_bench.report.figures.drawing import (
    BASE,
    PALE,
    WIDTH,
    Data,
    block_title,
    panel_title,
    title,
    top_level,
    y_axis,
)
from isokl_bench.report.survival.table import SurvivalTable
from isokl_bench.results.survival import Survival
from isokl_bench.results.survival_rollouts import Series

COLUMNS = 3  # panels side by side
GAP = 28  # between them: the numbers under one end beside those under the next
PANELS = 24
HEIGHT = 150
LINE = 13  # pixels of one line of numbers at risk
TIMES = 5  # at which these numbers stand

_PLASMA = ("#0d0887", "#6a00a8", "#b12a90", "#e16462", "#fca636")  # matplotlib's, but for what is too pale

Rows = list[dict[str, Any]]


def survival_figure(table: SurvivalTable) -> dict[str, Any]:
    """The Vega-Lite specification: a panel for each of the first 24 series, a block for each model and
    behavior."""
    series = table.series[:PANELS]
    with schemapi.debug_mode(False):  # else altair checks every object as it is made
        drawing = _SurvivalPanels(table, series)
        blocks = list(dict.fromkeys(s.row.first.pair for s in series))
        return top_level(
            [drawing.block(names, [s for s in series if s.row.first.pair == names]) for names in blocks],
            title(
                "How long can the steered model still answer?",
                "Kaplan–Meier share of rollouts that have not yet had a fork with an answer mass under "
                f"{table.threshold:g}, with its 95 % log-log interval.",
                "Ticks: rollouts censored, because they or their window ended. "
                "Under each panel: rollouts still at risk.",
            ),
            drawing.data,
        )


def curve(survival: Survival) -> Rows:
    """The steps of the curve: t, S, low, high and the rollouts at risk, from S = 1 at the beginning to its
    end."""
    times = survival.time if survival.time[0] == 0 else np.concatenate([[0.0], survival.time])
    steps = [(float(t), *survival.at(t), survival.at_risk(t)) for t in times]
    first = [] if steps[0][1] == 1 else [(0.0, 1.0, np.nan, np.nan, survival.n)]
    return [
        {"t": t, "S": share, "low": _known(low), "high": _known(high), "at_risk": n}
        for t, share, low, high, n in (*first, *steps)
    ]


def censored(survival: Survival) -> Rows:
    """Where rollouts were censored: t, S there, and how many."""
    times, counts = np.unique(survival.followed[~survival.died], return_counts=True)
    return [
        {"t": float(t), "S": survival.at(t)[0], "rollouts": int(n)}
        for t, n in zip(times, counts, strict=True)
    ]


def band(steps: Rows) -> Rows:
    """The steps that have an interval; the last of them is held until the next step, which has none."""
    rows: Rows = []
    for before, step in zip([{"low": None}, *steps], steps, strict=False):
        if step["low"] is not None:
            rows.append(step)
        elif before["low"] is not None:
            rows.append(step | {"low": before["low"], "high": before["high"]})
    return rows


def ramp(n: int) -> list[str]:
    """n colours from dark to light, in the order of a dose."""
    anchors = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _PLASMA])
    places = np.linspace(0, len(anchors) - 1, max(n, 2))[:n]
    channels = [np.interp(places, range(len(anchors)), channel) for channel in anchors.T]
    return [
        "#" + "".join(f"{round(value):02x}" for value in colour) for colour in zip(*channels, strict=True)
    ]


class _SurvivalPanels:
    """The colours that all panels share, the panels, and their data by name."""

    def __init__(self, table: SurvivalTable, series: Iterable[Series]) -> None:
        self.table = table
        self.data = Data()
        self.width = (WIDTH - GAP * (COLUMNS - 1)) / COLUMNS
        alphas = sorted({alpha for s in series for alpha in s.alphas})
        steered = [alpha for alpha in alphas if alpha]
        colours = ([BASE] if 0 in alphas else []) + ramp(len(steered))
        self.colour = alt.Color(
            "alpha:N",
            scale=alt.Scale(domain=[_label(alpha) for alpha in alphas], range=colours),
            legend=alt.Legend(symbolType="stroke", symbolOpacity=1),
        )

    def block(self, names: tuple[str, ...], series: list[Series]) -> Any:
        """The panels of one model and behavior, in rows."""
        rows = [
            alt.HConcatSpecGenericSpec(hconcat=[self._panel(s, first=s is row[0]) for s in row], spacing=GAP)
            for row in (series[i : i + COLUMNS] for i in range(0, len(series), COLUMNS))
        ]
        return alt.VConcatSpecGenericSpec(vconcat=rows, spacing=18, title=block_title(" · ".join(names)))

    def _panel(self, series: Series, first: bool) -> Any:
        words = [series.row.first.method, *self.table.dimensions(series)]
        heading = panel_title(", ".join(words))
        self.x = alt.Scale(domain=[0, max(series.end, 1)], nice=False)
        curves = alt.LayerSpec(
            layer=self._curves(series, first), width=self.width, height=HEIGHT, title=heading
        )
        return alt.VConcatSpecGenericSpec(vconcat=[curves, self._at_risk(series, first)], spacing=2)

    def _curves(self, series: Series, first: bool) -> list[Any]:
        steps, bands, ticks = self._rows(series)
        reference = [row for row in steps if row["alpha"] == _label(0)]
        share = alt.Scale(domain=[0, 1], nice=False)
        y_of_share = y_axis("share alive" if first else None, (0, 0.25, 0.5, 0.75, 1))
        x_of_forks = alt.Axis(title="fork point (generated token)", grid=False, tickCount=5)
        x = alt.X("t:Q", scale=self.x, axis=x_of_forks)
        y, low = (alt.Y(f"{name}:Q", scale=share, axis=y_of_share) for name in ("S", "low"))
        shown = [alt.Tooltip(f"{name}:N") for name in ("alpha", "t")]
        shown += [alt.Tooltip(f"{name}:Q", format=".3g") for name in ("S", "low", "high", "at_risk")]
        area = alt.MarkDef(type="area", interpolate="step-after", fillOpacity=0.12, aria=False)
        half = alt.MarkDef(type="rule", color=PALE, strokeDash=[4, 3])
        wide, line = (
            alt.MarkDef(type="line", interpolate="step-after", strokeWidth=width, aria=False)
            for width in (5, 1.8)
        )
        tick = alt.MarkDef(type="point", shape="stroke", angle=90, size=36, strokeWidth=1.2, aria=False)
        spot = alt.MarkDef(type="point", opacity=0, size=50)
        return [
            self.data.unit(bands, area, x=x, y=low, y2=alt.Y2("high"), color=self.colour),
            self.data.unit([{"half": 0.5}], half, y=alt.Y("half:Q", scale=share)),
            self.data.unit(reference, wide, x=x, y=y, color=self.colour),  # seen where others lie on it
            self.data.unit(steps, line, x=x, y=y, color=self.colour),
            self.data.unit(ticks, tick, x=x, y=y, color=self.colour),
            self.data.unit(steps, spot, x=x, y=y, tooltip=shown),
        ]

    def _rows(self, series: Series) -> tuple[Rows, Rows, Rows]:
        """Of all alphas the steps, the bands and the ticks of the censored."""
        steps: Rows = []
        bands: Rows = []
        ticks: Rows = []
        for alpha, rollouts in series.alphas.items():
            label = {"alpha": _label(alpha)}
            found = [label | row for row in curve(rollouts.survival)]
            steps += found
            bands += band(found)
            ticks += [label | row for row in censored(rollouts.survival)]
        return steps, bands, ticks

    def _at_risk(self, series: Series, first: bool) -> Any:
        times = np.linspace(0, series.end, TIMES if series.end else 1)
        rows = [
            {"alpha": _label(alpha), "t": float(t), "n": rollouts.survival.at_risk(t)}
            for alpha, rollouts in series.alphas.items()
            for t in times
        ]
        axis = alt.Axis(title=None, labels=first, labelPadding=14, ticks=False, domain=False, grid=False)
        y = alt.Y("alpha:N", axis=axis, scale=alt.Scale(domain=[_label(alpha) for alpha in series.alphas]))
        x = alt.X("t:Q", scale=self.x, axis=None)
        text = alt.MarkDef(type="text", fontSize=10, aria=False)
        unit = self.data.unit(rows, text, x=x, y=y, text=alt.Text("n:Q"), color=self.colour)
        unit.width, unit.height = self.width, LINE * len(series.alphas)
        return unit


def _label(alpha: float) -> str:
    return f"α = {alpha:g}"


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
