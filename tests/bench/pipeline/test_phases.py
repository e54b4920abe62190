"""Phases as objects, and under the names that stores hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.phases import Kind, Phase, alpha_list, missing_phases, stored_phases
from isokl_bench.pipeline.plan import resolve
from tests.small import SMALL

STORED = {  # as found in databases
    "fit": Phase(Kind.FIT),
    "calibrate +1": Phase(Kind.CALIBRATE, 1),
    "calibrate -1": Phase(Kind.CALIBRATE, -1),
    "generate +1 2": Phase(Kind.GENERATE, 1, number=2),
    "validate -1": Phase(Kind.VALIDATE, -1),
    "metric +1 base_nll@1 0,0.5,1": Phase(Kind.METRIC, 1, "base_nll@1", (0, 0.5, 1)),
    "metric -1 a[b='x 1,2@3 4',c=0.5]@12 0,1e-05": Phase(
        Kind.METRIC, -1, "a[b='x 1,2@3 4',c=0.5]@12", (0, 1e-5)
    ),
    "traces +1 0,1,2": Phase(Kind.TRACES, 1, alphas=(0, 1, 2)),
    "gap -1": Phase(Kind.GAP, -1),
}
ALPHAS = st.lists(st.floats(0, 1e9), min_size=1, max_size=4).map(tuple)
SIGNS = st.sampled_from([1, -1])
PHASES = (
    st.just(Phase(Kind.FIT))
    | st.builds(Phase, st.sampled_from([Kind.CALIBRATE, Kind.VALIDATE, Kind.GAP]), SIGNS)
    | st.builds(Phase, st.just(Kind.GENERATE), SIGNS, number=st.integers(1, 99))
    | st.builds(Phase, st.just(Kind.TRACES), SIGNS, alphas=ALPHAS)
    | st.builds(Phase, st.just(Kind.METRIC), SIGNS, st.text(min_size=1).map("{}@1".format), ALPHAS)
)


@pytest.mark.parametrize("name", STORED)
def test_stored_names_are_read_and_written(name):
    assert Phase.parse(name) == STORED[name]
    assert STORED[name].to_text() == name


@given(PHASES)
def test_a_phase_comes_back_from_its_name_but_for_digits_beyond_the_twelfth(phase):
    again = Phase.parse(phase.to_text())
    assert again.to_text() == phase.to_text()
    assert (again.kind, again.sign, again.metric, again.number) == (
        phase.kind, phase.sign, phase.metric, phase.number
    )  # fmt: skip
    assert alpha_list(again.alphas) == alpha_list(phase.alphas)


@pytest.mark.parametrize("name", ["", "other +1", "calibrate", "generate +1", "generate +1 x", "traces +1 a"])
def test_what_is_no_phase_is_refused(name):
    with pytest.raises(ValueError, match=r"."):
        Phase.parse(name)


def test_phases_of_another_version_are_left_to_it():
    assert stored_phases({"fit": None, "evaluate +1 mfv": {}}) == {Phase(Kind.FIT): None}


def test_what_is_missing_is_said_in_order(registry):
    config = RunConfig(model="tiny-qwen", method="pca", bidirectional=True, **SMALL)
    plan = resolve(config, registry)
    names = [phase.to_text() for phase in missing_phases(plan, {})]
    metrics = [f"{metric.label()}@{metric.version}" for metric in plan.metrics]
    one_sign = ["calibrate", "generate", "validate", *["metric"] * 4, "traces"]
    assert [name.split(" ")[0] for name in names] == ["fit", *one_sign, *one_sign]
    assert names[4:8] == [f"metric +1 {metric} 0,1" for metric in metrics]
    done = {"fit": None, "calibrate +1": {"outcome": "budget_exceeded"}, "calibrate -1": {"outcome": "jump"}}
    done |= {"generate -1 1": None, "validate -1": None, "traces -1 0": {"alphas": [0.0]}}
    done |= {f"metric -1 {metric} 0,1": {"alphas": [0.0, 1.0]} for metric in metrics[1:]}
    left = [phase.to_text() for phase in missing_phases(plan, stored_phases(done))]
    assert left == ["generate -1 2", f"metric -1 {metrics[0]} 0,1", "traces -1 1"]
