"""Metrics on forks whose answers are written down: what is paired, what counts as a flip, and of how many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.pipeline.intervention import Ask, Steered
from isokl_bench.pipeline.session import MeasureSession
from isokl_plugins.metrics.branch_pmass import BranchPmass
from isokl_plugins.metrics.target_logit import TargetLogit
from isokl_registry import REPLY_END, Answer, ForkValues, Prompt
from tests.steerings import TEXTS, steer

NAN = np.nan


@dataclass
class Forked:
    """A session of two alphas whose fork at column j has probability first[..., j] of the first answer, and
    so on."""

    first: np.ndarray
    second: np.ndarray
    first_is_target: np.ndarray
    alphas = (0.0, 1.0)

    def forks(self, points):
        self.points = list(points)
        logs = np.log(self.first), np.log(self.second)
        return ForkValues(points, *logs, *logs)


def measured(metric, first, second, target):
    session = Forked(np.array(first), np.array(second), np.array(target))
    found = {m.quantity: np.asarray(m.values) for m in metric.measure(session)}
    return session, found


def test_pmass_changes_are_over_forks_that_both_rollouts_reached():
    # one prompt; forks 0, 5, 10 and the reply's end. The steered reply ended before fork 10, the base one did
    # not.
    session, found = measured(
        BranchPmass(window=10),
        [[[0.5, 0.6, 0.9, 0.9]], [[0.4, 0.2, NAN, 0.3]]],
        [[[0.4, 0.3, 0.1, 0.1]], [[0.4, 0.2, NAN, 0.3]]],
        [True],
    )
    assert session.points == [0, 5, 10, REPLY_END]
    assert found["pmass"].shape == (2, 1, 3)
    np.testing.assert_allclose(found["pmass_mean"][:, 0], [(0.9 + 0.9 + 1.0) / 3, (0.8 + 0.4) / 2])
    np.testing.assert_allclose(found["pmass_change"][:, 0], [0.0, (-0.1 - 0.5) / 2], atol=1e-12)
    np.testing.assert_array_equal(found["forks_compared"][:, 0], [3, 2])
    np.testing.assert_allclose(found["pmass_end"][:, 0], [1.0, 0.6])


def test_log_ratios_point_to_the_positive_answer():
    # two questions; the positive answer of the second is the second word. Columns: start, window, the reply's
    # end.
    _, found = measured(
        TargetLogit(),
        [[[0.5, NAN, 0.2]] * 2, [[0.6, NAN, 0.4]] * 2],
        [[[0.25, NAN, 0.4]] * 2, [[0.1, NAN, 0.2]] * 2],
        [True, False],
    )
    log = np.log
    np.testing.assert_allclose(found["answer_log_ratio"], [[log(2), -log(2)], [log(6), -log(6)]])
    np.testing.assert_allclose(found["log_ratio"][1], [log(3), -log(3)])
    np.testing.assert_allclose(found["target_logit"][1], [log(0.6 / 0.5), log(0.1 / 0.25)])
    np.testing.assert_allclose(found["final_answer_log_ratio"][0], [-log(2), log(2)])
    np.testing.assert_allclose(found["final_log_ratio"][1], [log(4), -log(4)])


def test_flips_are_of_those_that_could_flip():
    base, steered = [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]  # of the first answer, at the reply's end
    _, found = measured(
        TargetLogit(),
        [[[p] * 3 for p in base], [[p] * 3 for p in steered]],
        [[[0.5] * 3] * 3] * 2,
        [True] * 3,
    )
    np.testing.assert_array_equal(found["answer_flip"][1], [1, 0, 1])
    np.testing.assert_array_equal(found["flip_to_positive"], [[0, 0, NAN], [1, 0, NAN]])
    np.testing.assert_array_equal(found["flip_to_negative"], [[NAN, NAN, 0], [NAN, NAN, 1]])


@pytest.mark.parametrize("metric", [BranchPmass(window=0), TargetLogit(window=0)])
def test_a_window_of_nothing_is_the_start_of_the_reply(metric, tiny):
    answer = AnswerTokens.of(Answer('{"value":', (" true",), (" false",)), tiny)
    intervention, prompts = (
        Steered(tiny, steer(tiny, "mean_diff"), 1.0),
        [Prompt(text, True) for text in TEXTS],
    )
    (greedy,) = intervention.rollouts([Ask(TEXTS, [0.0, 1.0], 3)])
    session = MeasureSession(intervention, [0.0, 1.0], prompts, answer, greedy)
    found = {m.quantity: np.asarray(m.values) for m in metric.measure(session)}
    pairs = {"pmass_end": "pmass_mean", "final_log_ratio": "log_ratio"}
    for end, start in ((end, start) for end, start in pairs.items() if end in found):
        np.testing.assert_array_equal(found[end], found[start])
