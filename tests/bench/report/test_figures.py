"""What the figures of `isokl report` draw: lines of several seeds and windows, and effects against KL."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from isokl_bench.report.figures import files
from isokl_bench.report.figures.drawing import still
from isokl_bench.report.figures.figure1 import figure
from isokl_bench.report.figures.figure2 import response_figure
from isokl_bench.report.figures.files import svg, write_figure
from isokl_bench.results import lines as limits
from isokl_bench.results.curves import Curve, Curves, read_curves
from isokl_bench.results.lines import choose_lines
from isokl_bench.results.responses import DoseResponse, Responses, dose_response
from isokl_db import Measurement, Store
from tests.report_store import add, add_curves, begin, calibration, rows_of, summary

LOG_RATIO = "log p(target answer) − log p(other), forced at the start of the reply"
KL = Sequence[Sequence[float | None]]  # of each prompt at each token


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "own.db") as opened:
        yield opened


def add_kl(
    store: Store, kl: dict[float, KL], effects: dict[float, tuple[float, float, float]], **changes: Any
) -> None:
    """A run with the KL and the log_ratio of each alpha; final_log_ratio is ten times as much."""
    attempt = begin(store, **changes)
    attempt.commit_phase("calibrate", 1.0, calibrations=[calibration(stat=changes.get("stat", "kl_p95"))])
    measurements = [
        Measurement(
            sign=1,
            metric="kl_trajectory",
            quantity="kl",
            alpha=alpha,
            prompt=i,
            position=token,
            value=value,
            reason="the row has ended" if value is None else None,
        )
        for alpha, prompts in kl.items()
        for i, prompt in enumerate(prompts)
        for token, value in enumerate(prompt)
    ]
    summaries = [
        summary("target_logit", quantity, alpha, (scale * mean, scale * low, scale * high))
        for alpha, (mean, low, high) in effects.items()
        for quantity, scale in (("log_ratio", 1), ("final_log_ratio", 10))
    ]
    attempt.commit_phase("metrics", 1.0, measurements=measurements, summaries=summaries)
    attempt.done()


def curves_of(store: Store) -> Curves:
    found = read_curves(store, choose_lines(rows_of(store)))
    assert found is not None
    return found


def responses_of(store: Store) -> DoseResponse:
    found = dose_response(Responses(store), choose_lines(rows_of(store)))
    assert found is not None
    return found


def texts(specification: dict[str, Any]) -> set[str]:
    return set(ET.fromstring(svg(still(specification))).itertext())


def tooltips(panels: Any) -> set[str]:
    """Fields that show under the pointer, of all layers."""
    if isinstance(panels, list):
        return set().union(*map(tooltips, panels))
    inside = [tooltips(panels[key]) for key in ("vconcat", "hconcat", "layer") if key in panels]
    return {tip["field"] for tip in panels.get("encoding", {}).get("tooltip", [])}.union(*inside)


def without(curve: Curve, *names: str) -> Curve:
    return [{key: value for key, value in point.items() if key not in names} for point in curve]


# -- Figure 1: seeds and windows ----------------------------------------------------------------------


def test_the_band_of_several_seeds_is_the_range_of_their_medians(store: Store) -> None:
    add_kl(store, {1.0: [[1.0, 5.0], [2.0, None], [9.0, None]]}, {}, seed=0)  # medians 2 and 5
    add_kl(store, {1.0: [[3.0], [3.0], [8.0]]}, {}, seed=1)  # 3, and none running
    add_kl(store, {1.0: [[7.0, 1.0], [7.0, 3.0]]}, {}, seed=2)  # 7 and 2
    curves = curves_of(store)
    assert without(curves.blocks[0].kl, "method", "alpha") == [
        {"token": 0, "median": 3.0, "low": 2.0, "high": 7.0, "n": 3, "over": "seeds"},
        {"token": 1, "median": 3.5, "low": 2.0, "high": 5.0, "n": 2, "over": "seeds"},
    ]
    shown = texts(figure(curves))
    assert "Above: median over seeds of the median holdout prompt of each; band: range over seeds." in shown
    assert not any("10–90 %" in text for text in shown)


def test_one_seed_among_series_of_several_keeps_its_band_over_prompts(store: Store) -> None:
    add_kl(store, {1.0: [[1.0], [2.0]]}, {}, seed=0)
    add_kl(store, {1.0: [[3.0], [4.0]]}, {}, seed=1)
    add_kl(store, {1.0: [[0.0], [1.0], [2.0]]}, {}, method="mean_diff")
    curves = curves_of(store)
    assert without(curves.blocks[0].kl, "alpha", "token") == [
        {"method": "mean_diff", "median": 1.0, "low": 0.2, "high": 1.8, "n": 3, "over": "prompts"},
        {"method": "pca", "median": 2.5, "low": 1.5, "high": 3.5, "n": 2, "over": "seeds"},
    ]
    assert {
        "With one seed: median and 10–90 % band over the holdout prompts that are still running.",
    } <= texts(figure(curves))


def test_the_interval_of_the_answer_mass_is_over_what_the_title_says(store: Store) -> None:
    def subtitle() -> str:
        return " ".join(figure(curves_of(store))["title"]["subtitle"])

    add_curves(store, add(store), tokens=0)
    assert "95 % interval over prompts; grey" in subtitle()
    add_curves(store, add(store, seed=1), tokens=0)
    assert "95 % interval over seeds; grey" in subtitle()
    assert "Above" not in subtitle()
    add_curves(store, add(store, method="mean_diff"), tokens=0)
    assert "95 % interval over seeds, or prompts for a single seed; grey" in subtitle()


def test_a_seed_whose_rows_end_early_is_smoothed_like_the_others(store: Store) -> None:
    wave = [0.0, 2.0] * 40
    add_kl(store, {1.0: [wave]}, {}, seed=0)
    add_kl(store, {1.0: [[*wave[:20], *([None] * 60)]]}, {}, seed=1)
    curve = curves_of(store).blocks[0].kl
    assert [point["token"] for point in curve] == [*range(0, 80, 2), 79]  # every second, and the last
    assert {(point["low"], point["high"]) for point in curve if 8 <= point["token"] <= 12} == {(1.0, 1.0)}


def test_windows_are_dashes_of_one_colour(store: Store) -> None:
    for method, window in product(("mean_diff", "pca"), (100, 20, 50)):
        add_kl(store, {1.0: [[1.0]]}, {}, method=method, window=window)
    curves = curves_of(store)
    assert (curves.lines.methods, curves.lines.variants) == (
        ["mean_diff", "pca"],
        ["window 20", "window 50", "window 100"],
    )
    assert curves.blocks[0].ends == (20, 50, 100)
    specification = figure(curves)
    band, *_, line, _ = specification["vconcat"][0]["vconcat"][0]["hconcat"][0]["layer"]
    assert line["encoding"]["strokeDash"]["scale"]["domain"] == curves.lines.variants
    assert line["encoding"]["color"]["scale"]["domain"] == curves.lines.methods
    assert band["encoding"]["detail"]["field"] == "variant"
    assert {"pca", "window 20", "window 100", "t = 50"} <= texts(specification)


def test_without_several_windows_there_is_no_dash(store: Store) -> None:
    add_kl(store, {1.0: [[1.0]]}, {})
    specification = figure(curves_of(store))
    assert (
        "strokeDash" not in specification["vconcat"][0]["vconcat"][0]["hconcat"][0]["layer"][-2]["encoding"]
    )
    assert not any("window" in text for text in texts(specification))


# -- a mixed store ------------------------------------------------------------------------------------


def colours(specification: dict[str, Any]) -> dict[str, str]:
    """The colour of each method, by the scale that the first line with a legend has."""
    (scale, *others) = _scales(specification)
    assert all(other == scale for other in others)
    return dict(zip(scale["domain"], scale["range"], strict=True))


def _scales(panels: Any) -> list[dict[str, list[str]]]:
    if isinstance(panels, list):
        return [scale for panel in panels for scale in _scales(panel)]
    own = [panels["encoding"]["color"]["scale"]] if "color" in panels.get("encoding", {}) else []
    inside = [panels[key] for key in ("vconcat", "hconcat", "layer") if key in panels]
    return own + [scale for part in inside for scale in _scales(part)]


def test_a_method_has_one_colour_in_every_panel_and_figure(store: Store) -> None:
    add_curves(store, add(store, method="ablation"), tokens=0)  # in Figure 1 alone
    add_kl(store, {1.0: [[1.0]]}, {1.0: (1.0, 1.0, 1.0)}, method="mean_diff")
    for layers in ([3], [4]):
        add_kl(store, {1.0: [[1.0]]}, {1.0: (1.0, 1.0, 1.0)}, behavior="honesty", layers=layers)
    first, second = curves_of(store), responses_of(store)
    lines = [p for block in first.blocks for p in block.kl]
    assert {(p["method"], p.get("variant")) for p in lines} == {
        ("mean_diff", None),  # alone on its behavior, so that its layers tell nothing
        ("pca", "layers 3"),
        ("pca", "layers 4"),
    }
    found = colours(figure(first))
    assert list(found) == ["ablation", "mean_diff", "pca"]
    assert len(set(found.values())) == 3
    assert colours(response_figure(second)) == found
    assert not {"ablation"} & texts(response_figure(second))


def test_a_panel_without_points_is_not_drawn(store: Store) -> None:
    add_kl(store, {1.0: [[1.0]], 2.0: [[2.0]]}, {})
    add_kl(store, {2.0: [[2.0]]}, {}, behavior="honesty")
    add_curves(store, add(store, behavior="honesty", method="mean_diff"), tokens=0)
    honesty, sentiment = figure(curves_of(store))["vconcat"]

    def titles(block: dict[str, Any]) -> list[list[str]]:
        return [[p.get("title", {}).get("text", "") for p in row["hconcat"]] for row in block["vconcat"]]

    assert titles(sentiment) == [["α = 1", "α = 2"]]
    # Each with its own, as they do not line up.
    assert titles(honesty) == [["α = 2"], ["α = 1", "α = 2", "α = 4"]]


# -- how much is drawn --------------------------------------------------------------------------------


def test_of_too_many_rows_an_excerpt_is_drawn_which_is_stated(store: Store) -> None:
    for behavior, method, seed in product("abcdefgh", range(8), range(4)):
        add(store, behavior=behavior, method=f"m{method}", seed=seed)
    chosen = choose_lines(rows_of(store))
    assert list(chosen.blocks) == ["tiny-qwen · a", "tiny-qwen · b", "tiny-qwen · c"]
    assert [line.keys["method"] for line in chosen.drawn][:8] == [*(f"m{n}" for n in range(7)), "m0"]
    assert {len(line.runs) for line in chosen.drawn} == {3}
    assert chosen.left_out == (
        "The figures draw 54 of 256 runs: the first 18 of 64 rows of Table 1, at most 3 seeds each; choose others "
        "with --model, --behavior, --method …"
    )


def test_what_fits_is_drawn_whole(store: Store) -> None:
    for behavior, method, window, seed in product("abc", "mnopqr", (20, 50), range(3)):
        add(store, behavior=behavior, method=method, window=window, seed=seed)
    chosen = choose_lines(rows_of(store))
    assert (len(chosen.drawn), chosen.left_out) == (36, "")
    assert sum(len(line.runs) for line in chosen.drawn) == limits.RUNS


def test_a_method_that_is_another_has_no_line_over_its_own(store: Store) -> None:
    for method in ("pca", "pca_center", "mean_diff"):
        add(store, method=method)
    chosen = choose_lines(rows_of(store))
    assert [line.keys["method"] for line in chosen.drawn] == ["mean_diff", "pca"]
    assert chosen.left_out == "pca_center is pca by another way and has no place of its own beside it."


def test_there_are_no_more_windows_than_dashes(store: Store) -> None:
    for window in (5, 10, 20, 50, 100, 200, 400):
        add(store, window=window)
    chosen = choose_lines(rows_of(store))
    assert chosen.variants == [f"window {n}" for n in (5, 10, 20, 50, 100, 200)]


# -- Figure 2 -----------------------------------------------------------------------------------------


def test_the_kl_of_a_dose_is_the_percentile_within_the_calibration_window(store: Store) -> None:
    kl = {0.0: [[0.0, 0.0, 0.0]], 1.0: [[0.0, 1.0, 99.0], [2.0, None, None]], 2.0: [[4.0, 4.0, 99.0]]}
    effects = {0.0: (0.0, 0.0, 0.0), 1.0: (0.5, 0.25, 0.75), 2.0: (-1.0, -2.0, 0.5), 4.0: (3.0, 3.0, 3.0)}
    add_kl(store, kl, effects, window=2)
    found = responses_of(store)
    (block,) = found.blocks
    counts = {"method": "pca", "prompts": 16, "seeds": 1}
    assert block.effects["target_logit.log_ratio"] == [
        counts | {"alpha": 0.0, **dict.fromkeys(("kl", "kl_low", "kl_high", "mean", "low", "high"), 0.0)},
        counts
        | {"alpha": 1.0, "kl": 1.9, "kl_low": 1.9, "kl_high": 1.9, "mean": 0.5, "low": 0.25, "high": 0.75},
        counts
        | {"alpha": 2.0, "kl": 4.0, "kl_low": 4.0, "kl_high": 4.0, "mean": -1.0, "low": -2.0, "high": 0.5},
    ]
    assert [point["mean"] for point in block.effects["target_logit.final_log_ratio"]] == [0.0, 5.0, -10.0]
    assert (found.alphas, block.budgets) == ([1.0, 2.0], (1.0,))


def test_doses_of_several_seeds_are_means_with_intervals_over_seeds(store: Store) -> None:
    for seed, (kl, effect) in enumerate([(1.0, 2.0), (2.0, 3.0), (6.0, 7.0)]):
        add_kl(
            store,
            {1.0: [[kl]], 2.0: [[kl]] if seed else []},
            {1.0: (effect, 0, 9), 2.0: (effect, 0, 9)},
            seed=seed,
        )
    points = without(responses_of(store).blocks[0].effects["target_logit.log_ratio"], "method", "prompts")
    assert points[1:] == [
        {
            "alpha": 1.0,
            "kl": 3.0,
            "kl_low": 0.0,  # 3 ± 6.572, and there is no KL under 0
            "kl_high": 9.572,
            "mean": 4.0,
            "low": -2.572,
            "high": 10.57,
            "seeds": 3,
        },
        {
            "alpha": 2.0,
            "kl": 4.0,
            "kl_low": 0.0,
            "kl_high": 29.41,
            "mean": 5.0,
            "low": -20.41,
            "high": 30.41,
            "seeds": 2,
        },
    ]


def test_figure_2_shows_its_budget_its_alphas_and_both_effects(store: Store) -> None:
    import altair as alt

    for seed, window in product((0, 1), (20, 50)):
        kl: dict[float, KL] = {alpha: [[alpha + seed] * 2] for alpha in (0.5, 1.0, 2.0)}
        add_kl(store, kl, {alpha: (alpha, alpha, alpha) for alpha in kl}, seed=seed, window=window)
    specification = response_figure(responses_of(store))
    alt.Chart.from_dict(specification)
    assert {
        "Figure 2. What does a nat buy?",
        f"Change of {LOG_RATIO}, above 0 towards the behavior's positive side,",
        "against kl_p95 as measured on the holdout prompts, within the calibration window, at each alpha.",
        "Means over 2 seeds of 16 holdout prompts, bars: 95 % intervals over seeds; filled circles: α = 1, the calibrated dose.",
        "tiny-qwen · sentiment",
        "measured kl_p95, nats",
        "1 nat budget",
        *("α = 0.5", "α = 2", "window 20", "window 50"),
        *("Δ log-ratio, nats", "Δ final log-ratio, nats"),
    } <= texts(specification)
    fields = {
        "method",
        "variant",
        "alpha",
        "kl",
        "kl_low",
        "kl_high",
        "mean",
        "low",
        "high",
        "prompts",
        "seeds",
    }
    assert tooltips(specification) == fields
    assert not tooltips(still(specification))


def test_a_budget_in_another_stat_is_no_place_on_the_axis_of_kl_p95(store: Store) -> None:
    add_kl(store, {1.0: [[1.0]]}, {1.0: (1.0, 1.0, 1.0)}, stat="nll", target=0.1)
    assert responses_of(store).blocks[0].budgets == ()


def test_figure_2_needs_kl_and_effect_at_one_alpha(store: Store) -> None:
    add_kl(store, {1.0: [[1.0]]}, {2.0: (1.0, 1.0, 1.0)})
    assert dose_response(Responses(store), choose_lines(rows_of(store))) is None
    add_curves(store, add(store, method="mean_diff"), tokens=3)
    assert list(responses_of(store).effects) == ["target_logit.log_ratio"]


# -- files --------------------------------------------------------------------------------------------

POINT: dict[str, Any] = {
    "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
    "data": {"values": [{"name": "</script><!--<script>"}]},
    "mark": "point",
    "encoding": {"x": {"field": "name"}},
}


@pytest.fixture
def _short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Vega, which takes seconds to pack."""
    monkeypatch.setattr(files, "vega_script", lambda: "")


@pytest.mark.usefixtures("_short_pages")
def test_a_figure_is_drawn_again_only_where_it_would_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def written(specification: dict[str, Any] = POINT) -> set[str]:
        """What another report writes; afterwards all files are old."""
        paths = write_figure(tmp_path, "point", specification, "A point")
        fresh = {path.name for path in paths if path.stat().st_mtime > 0}
        for path in paths:
            os.utime(path, (0, 0))
        return fresh

    everything = {"point.png", "point.svg", "point.html"}
    assert written() == everything
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written() == set()
    (tmp_path / "point.svg").write_text("somebody's own")
    assert written() == everything
    (tmp_path / "point.png").unlink()
    assert written() == everything
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert written(POINT | {"mark": "bar"}) == everything
    monkeypatch.setattr(files, "version", lambda package: "0.0")
    assert written(POINT | {"mark": "bar"}) == everything
    assert write_figure(tmp_path, "point", None, "A point") == []
    assert not any(tmp_path.iterdir())


@pytest.mark.usefixtures("_short_pages")
def test_a_name_cannot_end_the_script_of_a_page() -> None:
    shown = files.page(POINT, "<i> & co")
    assert shown.count("<script>") == shown.count("</script>") == 2
    assert "<!--" not in shown
    assert "<title>&lt;i&gt; &amp; co</title>" in shown
    (spec,) = re.findall(r'vegaEmbed\("#figure", (\{.*\}), \{mode', shown)
    assert json.loads(spec) == POINT
