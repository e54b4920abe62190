"""`isokl report survival`: Kaplan–Meier curves and KL trajectories, from stores made by hand."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from isokl_bench.cli.report import report
from isokl_bench.report.figures import files as figure_files
from isokl_bench.report.figures.drawing import COLOURS, still
from isokl_bench.report.survival.figure import band, curve, ramp, survival_figure
from isokl_bench.report.survival.spaghetti import spaghetti_figure
from isokl_bench.report.survival.table import SurvivalTable, markdown, plain_csv, print_survival
from isokl_bench.results import trajectories as survival_trajectories
from isokl_bench.results.runs import finished_runs
from isokl_bench.results.survival import Survival, kaplan_meier
from isokl_bench.results.survival_rollouts import read_series
from isokl_bench.results.trajectories import Spaghetti, binned, evenly, read_spaghetti
from isokl_db import Calibration, Measurement, Store
from isokl_registry import IsoklError

Isokl = Callable[..., Result]
Masses = Mapping[float, Sequence[Sequence[float | None]]]  # by alpha, of each prompt, at each fork

FORKS = "branch_pmass[window=40,every=10]"
KL = (1.0, 2.0, 3.0, 4.0, 8.0, 8.0)  # of prompt 0 at alpha 1; the first four are the calibration window
EARLY = 3.85  # their 95th percentile

WELL = (1.0, 1.0, 1.0, 1.0, 1.0)
SEED_0: Masses = {
    0.0: (WELL, WELL, WELL),
    1.0: (WELL, WELL, WELL),
    2.0: (
        (1.0, 0.7, 1.0, 1.0, 1.0),  # dead at 10, whatever comes after
        (1.0, 1.0, 0.7, 0.7, 0.7),  # at 20
        (1.0, 1.0, 1.0, None, None),  # ended by itself after 20
    ),
    4.0: ((0.1, 0.1, 0.1, 0.1, 0.1),) * 3,
}
SEED_1: Masses = SEED_0 | {
    2.0: (
        (1.0, 1.0, 0.0, None, None),  # at 20
        (0.75, 0.75, 0.75, 0.75, 0.74),  # at 40; the threshold itself is alive
        (1.0, 1.0, 1.0, 1.0, 1.0),
    )
}


def add(
    store: Store,
    masses: Masses,
    *,
    metric: str = FORKS,
    every: int = 10,
    kl: str | None = None,
    scale: float = 1.0,
    **changes: Any,
) -> int:
    """A finished run with these masses at its forks, and where `kl` names a metric with trajectories."""
    attempt = begin(store, **changes)
    rows = [
        measurement(metric, "pmass", alpha, prompt, i * every, mass)
        for alpha, prompts in masses.items()
        for prompt, forks in enumerate(prompts)
        for i, mass in enumerate(forks)
    ]
    if kl is not None:
        rows += [
            measurement(kl, "kl", alpha, prompt, token, scale * alpha * (1 + prompt) * value)
            for alpha, prompts in masses.items()
            for prompt in range(len(prompts))
            for token, value in enumerate(KL)
            if not (prompt == 2 and token == 5)  # its row has ended
        ]
    attempt.commit_phase("metrics", 1.0, measurements=rows)
    attempt.done()
    return attempt.id


def begin(store: Store, **changes: Any) -> Any:
    seed = changes.get("seed", 0)
    prompts = {
        split: [f"{split} {seed} {i}" for i in range(3)] for split in ("fit", "calibration", "holdout")
    }
    config = {"model": "tiny-qwen", "behavior": "sentiment", "method": "pca", "stat": "kl_p95", "target": 1.0}
    config |= {"protocol": "stable", "layers": [3], "window": 4, "seed": seed, "prompts": prompts} | changes
    attempt = store.begin(config, prompts=prompts, provenance={})
    found = {"sign": 1, "stat": "kl_p95", "target": 1.0, "tolerance": 0.05, "outcome": "converged"}
    attempt.commit_phase(
        "calibrate +1",
        1.0,
        calibrations=[Calibration(**found, coefficient=4.0, value=1.0, n_prompts=3, rounds=2)],
    )
    return attempt


def measurement(
    metric: str, quantity: str, alpha: float, prompt: int, position: int, value: float | None
) -> Measurement:
    where = {"metric": metric, "quantity": quantity, "alpha": alpha, "prompt": prompt, "position": position}
    return Measurement(sign=1, **where, value=value, reason="the row had ended" if value is None else None)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "own.db") as opened:
        yield opened


@pytest.fixture
def seeds(store: Store) -> Store:
    """Two seeds with forks and trajectories."""
    add(store, SEED_0, kl="kl_trajectory[window=6]")
    add(store, SEED_1, kl="kl_trajectory[window=6]", seed=1)
    return store


@pytest.fixture(autouse=True)
def _short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packing the script of a page takes seconds; test_report does it once."""
    monkeypatch.setattr(figure_files, "vega_script", lambda: "")


def table_of(store: Store, threshold: float = 0.75) -> SurvivalTable:
    return SurvivalTable(read_series(store, finished_runs(store, {}), threshold), threshold)


def survival(*times: float, died: Sequence[bool]) -> Survival:
    return kaplan_meier(np.array(times, dtype=float), np.array(died))


def check_vega_lite(spec: dict[str, Any]) -> None:
    """Of the panels; what all figures share is checked with Figure 1."""
    import altair as alt

    alt.Chart.from_dict(spec | {"config": {}})


# -- the estimate -------------------------------------------------------------------------------------


def loglog(share: float, variance: float) -> tuple[float, float]:
    """The interval around S whose log(−log S) has this variance by Greenwood's formula."""
    reach = math.exp(1.959964 * math.sqrt(variance) / -math.log(share))
    return share**reach, share ** (1 / reach)


def test_kaplan_meier_by_hand() -> None:
    # 6 at risk at 10, 5 at 20 (where two die and one, censored there, counts), 2 at 40
    found = survival(10, 20, 20, 20, 40, 40, died=[True, True, True, False, True, False])
    assert found.time.tolist() == [10, 20, 40]
    assert found.share == pytest.approx([5 / 6, 5 / 6 * 3 / 5, 5 / 6 * 3 / 5 / 2])
    at_10, at_20 = 1 / (6 * 5), 1 / (6 * 5) + 2 / (5 * 3)
    for i, variance in enumerate((at_10, at_20, at_20 + 1 / (2 * 1))):
        assert (found.low[i], found.high[i]) == pytest.approx(loglog(found.share[i], variance), rel=1e-5)
    assert [found.at_risk(t) for t in (0, 10, 11, 20, 40, 41)] == [6, 6, 5, 5, 2, 0]
    assert (found.n, found.deaths, found.end, found.half_life) == (6, 4, 40, 20)
    assert found.at(39)[0] == pytest.approx(0.5)
    assert found.at(0)[0] == 1


def test_a_half_that_rounding_misses_is_reached() -> None:
    found = survival(*range(1, 13), *[13] * 12, died=[True] * 12 + [False] * 12)
    assert found.at(12)[0] > 0.5  # 23/24 · 22/23 · … · 12/13, by hand 1/2
    assert found.half_life == 12


def test_no_deaths() -> None:
    found = survival(20, 40, 40, died=[False] * 3)
    assert found.share.tolist() == [1, 1]
    assert np.isnan(found.low).all()
    assert (found.deaths, found.half_life) == (0, None)
    assert math.isnan(found.at(41)[0])  # nobody was observed there


def test_all_dead_at_the_first_fork() -> None:
    found = survival(0, 0, 0, died=[True] * 3)
    assert (found.at(0)[0], found.at(100)[0], found.half_life) == (0, 0, 0)
    assert (found.at_risk(0), found.at_risk(1)) == (3, 0)


@pytest.mark.parametrize(("died", "share"), [(True, 0.0), (False, 1.0)])
def test_one_rollout(died: bool, share: float) -> None:
    found = survival(20, died=[died])
    assert (found.n, found.at(19)[0], found.at(20)[0]) == (1, 1, share)
    assert math.isnan(found.at(20)[1])


# -- from the store -----------------------------------------------------------------------------------


def test_rollouts_are_pooled_over_seeds_and_prompts(seeds: Store) -> None:
    (series,) = table_of(seeds).series
    assert (series.metric, series.end, series.every, series.marks) == (FORKS, 40, 10, (20, 40))
    assert sorted(series.alphas) == [0, 1, 2, 4]
    rollouts = series.alphas[2]
    assert rollouts.keys == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    assert rollouts.survival.followed.tolist() == [10, 20, 20, 20, 40, 40]
    assert rollouts.survival.died.tolist() == [True, True, False, True, True, False]


def test_the_threshold_moves_the_deaths(seeds: Store) -> None:
    (series,) = table_of(seeds, 0.5).series
    assert series.alphas[2].survival.died.tolist() == [False, False, False, True, False, False]
    assert series.alphas[2].survival.followed.tolist() == [40, 40, 20, 20, 40, 40]


def test_each_branch_pmass_is_a_series_of_its_own(store: Store) -> None:
    attempt = add(store, SEED_0)
    more = [measurement("branch_pmass", "pmass", 2.0, 0, fork, 0.1) for fork in (0, 5)]
    more += [measurement("branch_pmass2", "pmass", 2.0, 0, fork, 0.1) for fork in (0, 5)]
    store.attempt(attempt).commit_phase("more", 1.0, measurements=more)
    found = table_of(store)
    assert [(s.metric, s.end, s.every) for s in found.series] == [("branch_pmass", 5, 5), (FORKS, 40, 10)]
    assert found.dimensions(found.series[1]) == [FORKS]


def test_a_rollout_without_any_scored_fork_is_not_counted(store: Store) -> None:
    add(store, {1.0: (WELL, (None,) * 5)})
    assert table_of(store).series[0].alphas[1].survival.n == 1


# -- the table ----------------------------------------------------------------------------------------


def test_table_as_markdown(seeds: Store) -> None:
    lines = markdown(table_of(seeds)).splitlines()
    assert lines[0] == (
        "| model | behavior | method | forks | α | n | died | censored "
        "| S, middle | at risk | S, end | at risk | half-life |"
    )
    row = "| tiny-qwen | sentiment | pca | 0 to 40, every 10 |"
    low, high = loglog(0.5, 1 / 30 + 2 / 15)
    least, most = loglog(0.25, 1 / 30 + 2 / 15 + 1 / 2)
    assert lines[2:6] == [
        f"{row} 0 | 6 | 0 | 6 | 1.00 | 6 | 1.00 | 6 | > 40 |",
        f"{row} 1 | 6 | 0 | 6 | 1.00 | 6 | 1.00 | 6 | > 40 |",
        f"{row} 2 | 6 | 4 | 2 | 0.50 [{low:.2f}, {high:.2f}] | 5 | 0.25 [{least:.2f}, {most:.2f}] | 2 | 20 |",
        f"{row} 4 | 6 | 6 | 0 | 0.00 | 0 | 0.00 | 0 | 0 |",
    ]
    assert "under 0.75" in lines[7]


def test_a_share_that_nobody_was_left_to_tell_is_not_told(store: Store) -> None:
    add(store, {2.0: ((1.0, 1.0, None, None, None), (1.0, 0.1, None, None, None))})
    assert markdown(table_of(store)).splitlines()[2].endswith("| 2 | 2 | 1 | 1 | — | 0 | — | 0 | 10 |")
    add(store, {2.0: ((1.0, 1.0, None, None, None),)}, method="mean_diff")
    assert markdown(table_of(store)).splitlines()[2].endswith("| 2 | 1 | 0 | 1 | — | 0 | — | 0 | > 10 |")


def test_table_as_csv(seeds: Store) -> None:
    rows = list(csv.DictReader(io.StringIO(plain_csv(table_of(seeds)))))
    assert [row["alpha"] for row in rows] == ["0.0", "1.0", "2.0", "4.0"]
    row = rows[2]
    assert (row["method"], row["window"], row["metric"], row["threshold"]) == ("pca", "4", FORKS, "0.75")
    counts = ("n", "died", "censored", "t_middle", "survival_end", "at_risk_end", "half_life", "observed_to")
    assert [float(row[name]) for name in counts] == [6, 4, 2, 20, pytest.approx(0.25), 2, 20, 40]
    assert float(row["low_middle"]) == pytest.approx(loglog(0.5, 1 / 30 + 2 / 15)[0], rel=1e-5)
    assert [rows[0][name] for name in ("survival_end", "low_end", "half_life")] == ["1.0", "", ""]


def test_the_printed_table_fits_120_columns_and_keeps_brackets(seeds: Store) -> None:
    add(seeds, SEED_0, metric="branch_pmass", method="directional_ablation")
    add(seeds, SEED_0, method="directional_ablation", seed=1)
    console = Console(file=io.StringIO(), width=120)
    print_survival(table_of(seeds), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, shown.splitlines())) <= 120
    assert FORKS in shown
    (line,) = re.findall(r"^pca .*$", shown, re.MULTILINE)
    assert line.split() == ["pca", "0", "6", "0", "6", "1.00", "6", "1.00", "6", ">", "40"]


# -- the survival figure ------------------------------------------------------------------------------


def test_the_curve_starts_at_one_and_the_band_is_held_to_its_end() -> None:
    rows = curve(survival(10, 20, 20, died=[True, True, True]))
    assert [(row["t"], row["S"], row["at_risk"]) for row in rows] == [
        (0, 1, 3),
        (10, pytest.approx(2 / 3), 3),
        (20, 0, 2),
    ]
    low, high = loglog(2 / 3, 1 / 6)
    assert [(row["t"], row["low"], row["high"]) for row in band(rows)] == [
        (10, pytest.approx(low, rel=1e-5), pytest.approx(high, rel=1e-5)),
        (20, pytest.approx(low, rel=1e-5), pytest.approx(high, rel=1e-5)),
    ]


def test_a_death_at_the_first_fork_is_a_drop_from_one() -> None:
    rows = curve(survival(0, 10, died=[True, False]))
    assert [(row["t"], row["S"]) for row in rows] == [(0, 1), (0, 0.5), (10, 0.5)]


def test_the_survival_figure_is_valid_vega_lite_with_a_grey_reference(seeds: Store) -> None:
    spec = survival_figure(table_of(seeds))
    check_vega_lite(spec)
    check_vega_lite(still(spec))
    (panel,) = spec["vconcat"][0]["vconcat"][0]["hconcat"]
    colour = panel["vconcat"][0]["layer"][0]["encoding"]["color"]
    assert colour["scale"]["domain"] == ["α = 0", "α = 1", "α = 2", "α = 4"]
    assert colour["scale"]["range"] == ["#9a9a9a", *ramp(3)]
    at_risk = [row for rows in spec["datasets"].values() for row in rows if "n" in row]
    assert [row["n"] for row in at_risk if row["alpha"] == "α = 2"] == [6, 6, 5, 2, 2]


def test_colours_of_alphas() -> None:
    assert ramp(0) == []
    assert ramp(1) == ["#0d0887"]
    assert ramp(3) == ["#0d0887", "#b12a90", "#fca636"]


# -- spaghetti ----------------------------------------------------------------------------------------


def spaghetti(store: Store, *, normalize: bool = False) -> Spaghetti:
    found = read_spaghetti(store, table_of(store).series, normalize)
    assert found is not None
    return found


def drawn(spec: Mapping[str, Any], alpha: int) -> list[dict[str, Any]]:
    """The lines in the panel of this alpha."""
    (panel,) = (p for p in spec["vconcat"][0]["hconcat"] if p["title"]["text"].startswith(f"α = {alpha}:"))
    rows: list[dict[str, Any]] = spec["datasets"][panel["layer"][0]["data"]["name"]]
    return rows


def test_lines_are_coloured_by_what_became_of_their_rollout(seeds: Store) -> None:
    spec = spaghetti_figure(table_of(seeds), spaghetti(seeds))
    panels = spec["vconcat"][0]["hconcat"]
    titles = ["α = 1: 0 of 6 dead", "α = 2: 4 of 6 dead", "α = 4: 6 of 6 dead"]
    assert [panel["title"]["text"] for panel in panels] == titles
    scale = panels[0]["layer"][0]["encoding"]["color"]["scale"]
    assert scale == {"domain": ["alive", "dead"], "range": list(COLOURS[:2])}
    lines = drawn(spec, 2)
    fates = [(line["rollout"], line["fate"]) for line in lines]
    # The rarer on top.
    assert fates == [*((i, "dead") for i in (0, 1, 3, 4)), *((i, "alive") for i in (2, 5))]
    assert lines[1]["kl"] == [4.0, 8.0, 12.0, 16.0, 32.0, 32.0]
    assert lines[1]["token"] == [0, 1, 2, 3, 4, 5]
    assert lines[4]["kl"] == [6.0, 12.0, 18.0, 24.0, 48.0]  # its row ends before


def test_the_median_is_over_those_that_are_still_running(seeds: Store) -> None:
    spec = spaghetti_figure(table_of(seeds), spaghetti(seeds))
    layers = spec["vconcat"][0]["hconcat"][0]["layer"]
    medians = spec["datasets"][layers[1]["data"]["name"]]
    assert [row["median"] for row in medians] == [2, 4, 6, 8, 16, 12]  # of 8·1, 8·2 twice at the end
    assert layers[1]["mark"]["color"] == "black"


def test_normalised_lines_are_over_their_own_early_p95(seeds: Store) -> None:
    spec = spaghetti_figure(table_of(seeds), spaghetti(seeds, normalize=True))
    for line in drawn(spec, 4):
        assert line["kl"] == pytest.approx([kl / EARLY for kl in KL[: len(line["kl"])]], rel=1e-3)
    assert "its own KL in the calibration window." in spec["title"]["subtitle"][2]
    assert "KL / its early p95" in str(spec["vconcat"][0]["hconcat"][0]["layer"][0])


def test_lines_without_kl_cannot_be_normalised_and_that_is_said(seeds: Store) -> None:
    add(seeds, SEED_0, kl="kl_trajectory[window=6]", seed=2, scale=0.0)
    assert [len(panel.kl) for panel in spaghetti(seeds).panels] == [9, 9, 9]
    found = spaghetti(seeds, normalize=True)
    assert [(len(panel.kl), panel.flat) for panel in found.panels] == [(6, 3)] * 3
    (*_, said) = spaghetti_figure(table_of(seeds), found)["title"]["subtitle"]
    assert said.endswith("9 that have none there are left out.")


def test_many_lines_and_long_ones_are_thinned_and_that_is_said(
    seeds: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survival_trajectories, "LINES", 3)
    monkeypatch.setattr("isokl_bench.report.survival.spaghetti.LINES", 3)
    monkeypatch.setattr(survival_trajectories, "POINTS", 3)
    monkeypatch.setattr(survival_trajectories, "LEAST_POINTS", 1)
    spec = spaghetti_figure(table_of(seeds), spaghetti(seeds))
    lines = drawn(spec, 1)
    assert [line["rollout"] for line in lines] == [0, 2, 4]
    assert (lines[0]["token"], lines[0]["kl"]) == ([0.5, 2.5, 4.5], [1.5, 3.5, 8.0])
    assert lines[1]["kl"] == [4.5, 10.5, 24.0]  # the last of what there is
    subtitle = " ".join(spec["title"]["subtitle"])
    assert "means of 2 tokens" in subtitle
    assert "Of each panel 3 lines at most are drawn" in subtitle


def test_means_of_tokens_and_even_choices() -> None:
    bins = binned(np.array([[1.0, 3.0, 5.0], [1.0, np.nan, np.nan]]), 2)
    assert np.array_equal(bins, [[2.0, 5.0], [1.0, np.nan]], equal_nan=True)
    assert binned(np.empty((0, 3)), 2).shape == (0, 2)
    assert (evenly(3, 5), evenly(10, 4)) == ([0, 1, 2], [0, 2, 5, 7])


def test_runs_without_both_metrics_are_not_drawn(seeds: Store) -> None:
    add(seeds, SEED_0, seed=2)  # forks only
    add(seeds, SEED_0, seed=3, metric="other", kl="kl_trajectory[window=6]")  # trajectories only
    assert [len(panel.kl) for panel in spaghetti(seeds).panels] == [6, 6, 6]


def test_the_spaghetti_figure_is_valid_vega_lite_and_draws_a_kl_of_zero(store: Store) -> None:
    attempt = add(store, {1.0: (WELL,)})
    zero = [measurement("kl_trajectory", "kl", 1.0, 0, token, 0.0) for token in range(3)]
    store.attempt(attempt).commit_phase("kl", 1.0, measurements=zero)
    spec = spaghetti_figure(table_of(store), spaghetti(store))
    check_vega_lite(spec)
    assert drawn(spec, 1)[0]["kl"] == [1e-6] * 3
    assert not {"NaN", "Infinity"} & set(re.split(r"\W", figure_files.svg(still(spec))))


# -- the command --------------------------------------------------------------------------------------


@pytest.fixture
def isokl_survival(tmp_path: Path) -> Isokl:
    def run(*arguments: object, before: Sequence[object] = ()) -> Result:
        line = ["--db", tmp_path / "own.db", *before, "survival", *arguments]
        return CliRunner().invoke(report, list(map(str, line)), catch_exceptions=False)

    return run


def test_the_command_writes_eight_files(isokl_survival: Isokl, seeds: Store, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    result = isokl_survival(before=["--output", folder])
    kinds = ("png", "svg", "html")
    names = [
        "survival.md",
        "survival.csv",
        *(f"{f}.{kind}" for f in ("survival", "spaghetti") for kind in kinds),
    ]
    assert sorted(file.name for file in folder.iterdir()) == sorted(names)
    assert result.output.splitlines()[-1] == f"Wrote {', '.join(str(folder / name) for name in names)}"
    for name in ("survival.png", "spaghetti.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert "How long can the steered model still answer?" in (folder / "survival.svg").read_text()
    assert "FlattenTransform" not in (folder / "spaghetti.html").read_text()
    assert '"flatten"' in (folder / "spaghetti.html").read_text()


def test_its_own_folder_database_and_filters(isokl_survival: Isokl, seeds: Store, tmp_path: Path) -> None:
    add(seeds, SEED_0, method="mean_diff")
    own = tmp_path / "mine"
    isokl_survival("-o", own, "--db", seeds.path, before=["--output", tmp_path / "other", "--method", "pca"])
    assert {row["method"] for row in csv.DictReader(io.StringIO((own / "survival.csv").read_text()))} == {
        "pca"
    }
    assert not (tmp_path / "other").exists()


def test_without_trajectories_there_is_no_spaghetti_and_no_old_one(
    isokl_survival: Isokl, store: Store, tmp_path: Path
) -> None:
    add(store, SEED_0)
    (tmp_path / "spaghetti.png").touch()
    shown = isokl_survival("-o", tmp_path).output
    assert "No spaghetti figure: no KL of these rollouts is stored at alpha 1 or more" in shown
    assert (tmp_path / "survival.png").exists()
    assert not (tmp_path / "spaghetti.png").exists()


def test_no_finished_run(isokl_survival: Isokl, store: Store) -> None:
    begin(store)
    with pytest.raises(IsoklError, match="no finished run in"):
        isokl_survival()


def test_no_branch_pmass_says_how_to_measure_it(isokl_survival: Isokl, store: Store, tmp_path: Path) -> None:
    add(store, SEED_0, metric="branch_pmass_of_mine")
    message = (
        f"none of the 1 finished runs selected in {tmp_path / 'own.db'} has branch_pmass at its forks: measure it, with "
        "`isokl run … --metric branch_pmass --metric kl_trajectory`; parameters make it longer: "
        "`isokl plugins show branch_pmass`"
    )
    with pytest.raises(IsoklError, match=re.escape(message)):
        isokl_survival("-o", tmp_path)


@pytest.mark.parametrize("threshold", ["0", "1", "1.5", "nan", "-0.5"])
def test_a_threshold_that_no_mass_crosses(isokl_survival: Isokl, seeds: Store, threshold: str) -> None:
    with pytest.raises(
        IsoklError, match=rf"threshold {threshold} is not an answer mass .*: give one between 0 and 1"
    ):
        isokl_survival("--threshold", threshold)


def test_the_metrics_that_the_messages_name_exist(registry: Any) -> None:
    assert registry.create("metric", "branch_pmass[window=1024,every=32]").tokens == 1024
    assert registry.create("metric", "kl_trajectory[window=1024]").tokens == 1024
