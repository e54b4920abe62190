"""The search without a model, on stats whose curve is known; crossings and slopes by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isokl_bench.engine import search
from isokl_bench.engine.search import (
    Evaluation,
    Found,
    Outcome,
    Round,
    Search,
    crossing,
    crossing_interval,
    first_doses,
    log_slope,
)

INF = math.inf
TARGET, TOLERANCE = 1.0, 0.05
LEAST, MOST = 1e-4, 1e6
WIDTH = 1.3  # the stat's interval is from so many times less to so many times more than the stat


@dataclass
class Curve:
    """A stat of the dose in place of a model. look: what is read before the first round, if another."""

    value: Callable[[float], float]
    look: Callable[[float], float] | None = None
    target: float = TARGET
    least: float = LEAST
    most: float = MOST
    early: bool = True  # whether strong doses are dropped as soon as they may be
    rounds: list[Round] = field(default_factory=list)
    brackets: list[tuple[float, float]] = field(default_factory=list)

    def found(self, *doses: float) -> Found:
        """The result of a search that begins with these doses, or where the look says."""
        self.search = Search(self.target, TOLERANCE, self.least, self.most, self._read, self._reported)
        look = self.look or self.value
        first = first_doses(lambda doses: list(map(look, doses)), self.target, self.least, self.most)
        return self.search.run(doses or first)

    def _read(self, asked: Round) -> list[Evaluation]:
        self.rounds.append(asked)
        return [self._evaluation(asked, i, dose) for i, dose in enumerate(asked.doses)]

    def _evaluation(self, asked: Round, i: int, dose: float) -> Evaluation:
        value = self.value(dose)
        if not math.isfinite(value):
            return asked.broken(dose)
        if asked.may_drop(i, value) and self.early:
            return asked.too_strong(dose)
        return Evaluation(asked.number, dose, value, 1, True, (value / WIDTH, value * WIDTH))

    def _reported(self, new: list[Evaluation]) -> None:
        assert [one.dose for one in new] == self.rounds[-1].doses
        under, over = self.search.bracket()
        self.brackets.append((under.dose if under else 0.0, over.dose if over else INF))


def powers(target: float = TARGET):
    """Smooth curves that rise all the way: target · (dose / root) ** power."""
    return st.builds(
        lambda power, root: lambda dose: target * (dose / 10**root) ** power,
        st.floats(0.3, 4),
        st.floats(-3, 5),
    )


def noisy():
    """Curves that rise in the long run, with ups and downs on the way."""

    def build(power, wave, pitch, phase):
        return lambda dose: dose**power * (1 + wave * math.sin(pitch * math.log(dose) + phase))

    return st.builds(build, st.floats(0.5, 3), st.floats(0, 0.9), st.floats(1, 12), st.floats(0, 6))


def stepped():
    """Curves that stand still between jumps, as a stat does whose greedy tokens flip now and then."""

    def build(power, steps):
        return lambda dose: (math.exp(math.floor(math.log(dose) * steps) / steps)) ** power

    return st.builds(build, st.floats(0.5, 4), st.floats(0.5, 30))


def broken(curve, above):
    return lambda dose: INF if dose > above else curve(dose)


ANY = st.one_of(
    powers(),
    noisy(),
    stepped(),
    st.builds(broken, st.one_of(powers(), noisy(), stepped()), st.floats(1e-3, 1e4)),
    st.builds(lambda most: lambda dose: most * dose / (1 + dose), st.floats(0.1, 0.94)),
    st.builds(lambda least: lambda dose: least + dose, st.floats(1.06, 9)),
)


@settings(max_examples=300, deadline=None)
@given(curve=ANY, look=st.one_of(st.none(), ANY))
def test_whatever_the_curve_and_the_look(curve, look):
    tried = Curve(curve, look)
    found = tried.found()
    doses = [dose for asked in tried.rounds for dose in asked.doses]
    assert all(LEAST <= dose <= MOST for dose in doses)
    assert found.rounds <= 8
    assert len(tried.rounds) <= 8 + search.MORE + 1
    for asked, later in pairwise(tried.rounds):
        assert max(later.doses) < min((dose for dose in asked.doses if curve(dose) == INF), default=INF)
    for (low, high), (lower, higher) in pairwise(tried.brackets[: found.rounds]):
        assert low <= lower < higher <= high
    assert found.chosen in tried.search.tried
    before = [one for one in tried.search.tried if one.dose < found.chosen.dose and one.round <= found.rounds]
    if found.outcome == Outcome.CONVERGED:
        assert abs(found.chosen.value - TARGET) <= TOLERANCE
        assert found.chosen.value == curve(found.chosen.dose)
        assert all(one.value <= TARGET + TOLERANCE for one in before)
    elif found.outcome == Outcome.JUMP:
        assert found.chosen.value <= TARGET < found.above.value
        assert found.above.value == curve(found.above.dose)
        assert found.chosen.dose < found.above.dose
        assert all(one.value <= TARGET for one in before)
    elif found.outcome == Outcome.BUDGET_NOT_REACHED:
        assert found.chosen.dose == MOST
        assert all(one.value <= TARGET for one in tried.search.tried)
    else:
        assert found.chosen.dose == LEAST
        assert all(one.value > TARGET for one in tried.search.tried)
    crossed = found.outcome in (Outcome.CONVERGED, Outcome.JUMP)
    assert found.low <= found.chosen.dose <= found.high
    assert crossed or (found.low, found.high, found.slope) == (0, INF, None)
    again = Curve(curve, look)
    assert again.found() == found
    assert [asked.doses for asked in again.rounds] == [asked.doses for asked in tried.rounds]


@settings(max_examples=100, deadline=None)
@given(data=st.data(), target=st.floats(0.1, 5), off=st.floats(0.2, 5))
def test_on_a_power_law_three_rounds_find_root_interval_and_slope(data, target, off):
    """Also where the look sees another root than there is."""
    curve = data.draw(powers(target))
    tried = Curve(curve, target=target)
    found = tried.found()
    power = math.log(curve(2) / curve(1)) / math.log(2)
    root = (target / curve(1)) ** (1 / power)
    assert found.outcome == Outcome.CONVERGED
    assert found.rounds <= 3
    assert found.slope == pytest.approx(power)
    assert found.low == pytest.approx(root * WIDTH ** (-1 / power), rel=1e-6)
    assert found.high == pytest.approx(root * WIDTH ** (1 / power), rel=1e-6)
    misled = Curve(curve, look=lambda dose: curve(dose / off), target=target).found()
    assert misled.outcome == Outcome.CONVERGED
    assert misled.chosen.dose == pytest.approx(root, rel=2 * TOLERANCE / target / power)


@settings(max_examples=100, deadline=None)
@given(place=st.floats(-2, 4), under=st.floats(0, 0.94), over=st.floats(1.06, 9))
def test_a_jump_is_closed_in_on(place, under, over):
    edge = 10**place
    found = Curve(lambda dose: under if dose <= edge else over).found()
    assert found.outcome == Outcome.JUMP
    assert (found.chosen.value, found.above.value) == (under, over)
    assert found.chosen.dose <= edge < found.above.dose
    gap = found.above.dose / found.chosen.dose - 1
    assert gap < search.NARROW or (found.rounds == search.ROUNDS and gap < 4 * search.NARROW)
    assert found.slope is None


@settings(max_examples=100, deadline=None)
@given(most=st.floats(0, 0.94))
def test_a_stat_that_saturates_under_the_target_is_followed_to_the_last_dose(most):
    found = Curve(lambda dose: most * dose / (1 + dose)).found()
    assert (found.outcome, found.chosen.dose) == (Outcome.BUDGET_NOT_REACHED, MOST)


@given(least=st.floats(1.06, 100))
def test_a_stat_that_starts_above_the_target_is_followed_to_the_first_dose(least):
    found = Curve(lambda dose: least + dose).found()
    assert (found.outcome, found.chosen.dose) == (Outcome.BUDGET_EXCEEDED, LEAST)


@settings(max_examples=100, deadline=None)
@given(curve=powers(), share=st.floats(0.5, 3))
def test_a_stat_that_breaks_jumps_where_it_does_so_under_the_target(curve, share):
    power = math.log(curve(2) / curve(1)) / math.log(2)
    edge = share * curve(1) ** (-1 / power)
    found = Curve(broken(curve, edge)).found()
    assert found.chosen.dose <= edge
    if curve(edge) < TARGET - TOLERANCE:
        assert found.outcome == Outcome.JUMP
        assert found.above.value == INF
    elif curve(edge) > TARGET:
        assert found.outcome == Outcome.CONVERGED


@settings(max_examples=100, deadline=None)
@given(curve=ANY)
def test_what_batches_leave_unread_changes_nothing(curve):
    """Whether strong doses were dropped on the way or came to their end: what is found is the same."""
    early, whole = Curve(curve), Curve(curve, early=False)
    assert early.found() == whole.found()
    assert early.search.tried == whole.search.tried


@settings(max_examples=100, deadline=None)
@given(curve=ANY, ends=st.tuples(st.floats(-3, 0), st.floats(0.1, 3)))
def test_doses_stay_in_the_range_of_the_method(curve, ends):
    least, most = (10**end for end in ends)
    tried = Curve(curve, least=least, most=most)
    found = tried.found()
    assert all(least <= dose <= most for asked in tried.rounds for dose in asked.doses)
    if found.outcome == Outcome.BUDGET_NOT_REACHED:
        assert found.chosen.dose == most
    if found.outcome == Outcome.BUDGET_EXCEEDED:
        assert found.chosen.dose == least


def test_a_dose_on_target_beyond_one_above_it_is_not_the_answer():
    found = Curve(lambda dose: 0.4 if dose < 1.5 else 3.0 if dose < 2.5 else 1.0).found(1, 2, 3)
    assert found.outcome == Outcome.JUMP
    assert found.chosen.dose < 1.5 <= found.above.dose


def test_a_dropped_dose_is_read_to_its_end_where_the_interval_asks_for_it():
    """4 breaks, so 2 is dropped; 1 is the root, and nothing beyond it has come to its end."""
    tried = Curve(broken(lambda dose: dose**2, 3))
    found = tried.found(0.5, 4)
    assert found.chosen.dose == pytest.approx(1)
    assert found.high == pytest.approx(WIDTH**0.5)
    assert [(asked.number, pytest.approx(asked.doses)) for asked in tried.rounds] == [(1, [0.5, 4]), (2, [1, 2]), (3, [2])]  # fmt: skip


def test_strong_doses_may_be_dropped_but_for_the_least():
    def allowed(settled, full=()):
        asked = Round(2, [1.0, 3.0, 5.0], full, ceiling=2.0, settled=settled)
        return [asked.may_drop(i, asked.doses[i]) for i in (2, 1, 0, 2)]

    assert allowed(settled=False) == [False, False, False, True]  # 5 only once 3 is known to be strong too
    assert allowed(settled=True) == [True, True, False, True]
    assert allowed(settled=True, full=[5.0]) == [False, True, False, False]


def complete(*doses: float, early: bool = True) -> dict[float, bool]:
    """Which doses of a first round count as read to their end; between 3 and 4 they break, 2 is strong."""
    asked = Round(1, list(doses), [], ceiling=2.0, settled=False)
    curve = Curve(lambda dose: INF if 3 < dose < 4 else dose, early=early)
    return {one.dose: one.complete for one in asked.settle(curve._read(asked))}


@pytest.mark.parametrize("early", [True, False])
def test_the_least_strong_dose_is_read_to_its_end_and_none_beyond(early):
    assert complete(0.5, 4.5, 6.0, early=early) == {0.5: True, 4.5: True, 6.0: False}
    # The least is the one that broke.
    assert complete(0.5, 3.5, 4.5, early=False) == {0.5: True, 3.5: False, 4.5: False}


def test_crossing_interpolates_on_logs():
    assert crossing([1, 2, 4, 8], [0.01, 0.04, 0.16, 0.64], 0.08) == pytest.approx(2 * 2**0.5)
    assert crossing([1, 2], [0.1, 0.2], 1.0) == INF
    assert crossing([1, 2], [3.0, 4.0], 1.0) == 0
    assert crossing([1], [0.5], 1.0) == INF
    assert crossing([1], [3.0], 1.0) == 0
    assert crossing([1, 2], [-0.02, 0.3], 0.1) == pytest.approx(1 * 2 ** (0.12 / 0.32))
    assert crossing([1, 2], [0.1, INF], 1.0) == 1  # an open end reaches as far as it can
    assert crossing([1, 2], [-INF, 4.0], 1.0) == 2


@given(power=st.floats(0.2, 5), root=st.floats(1.01, 99))
def test_crossing_is_exact_on_power_laws(power, root):
    doses = [1.0, 10.0, 100.0]
    assert crossing(doses, [(d / root) ** power for d in doses], 1.0) == pytest.approx(root, rel=1e-6)


def test_the_interval_of_a_root_is_where_that_of_the_stat_holds_the_target():
    doses = [1.0, 2.0, 4.0, 8.0]
    ends = [(0.1 * dose, 0.4 * dose) for dose in doses]  # of a stat that is dose / 4
    assert crossing_interval(doses, ends, 1.0, 4.0) == (pytest.approx(2.5), INF)
    assert crossing_interval(doses, ends, 0.3, 1.0) == (0, pytest.approx(3.0))
    assert crossing_interval(doses, [(0.0, 0.5), (0.1, INF), (1.0, 2.0), (2.0, 4.0)], 1.5, 4.0) == (
        1.0,
        pytest.approx(4 * 2**0.585, rel=1e-3),
    )
    assert crossing_interval(doses, [(-INF, INF), *ends[1:]], 1.0, 4.0)[0] == pytest.approx(2.5)
    assert crossing_interval(doses, [(-INF, INF)] * 4, 1.0, 4.0) == (0, INF)


@given(
    ends=st.lists(st.tuples(st.floats(0.01, 9), st.floats(0.01, 9)), min_size=1, max_size=9),
    target=st.floats(0.1, 5),
    wider=st.floats(1, 3),
    data=st.data(),
)
def test_a_root_is_in_its_interval_and_wider_ones_of_the_stat_make_it_wider(ends, target, wider, data):
    ends = [(min(pair), max(pair)) for pair in ends]
    doses = [2.0**i for i in range(len(ends))]
    root = data.draw(st.sampled_from(doses))
    low, high = crossing_interval(doses, ends, target, root)
    assert 0 <= low <= root <= high
    less, more = crossing_interval(doses, [(a / wider, b * wider) for a, b in ends], target, root)
    assert less <= low * (1 + 1e-9)
    assert more >= high * (1 - 1e-9)


@given(power=st.floats(0.2, 9), root=st.floats(1.01, 99))
def test_slope_is_the_power_of_a_power_law(power, root):
    doses = [1.0, 10.0, 100.0]
    assert log_slope(doses, [2 * (d / root) ** power for d in doses], 2.0) == pytest.approx(power)


def test_slope_is_that_of_the_values_near_the_target():
    doses, values = [0.1, 1.0, 2.0, 4.0, 40.0], [0.9e-3, 0.5, 0.8, 2.0, 2.1]
    assert log_slope(doses, values, 1.0) == pytest.approx(np.log2(2.0 / 0.8))
    assert log_slope([1, 2, 2.001, 4], [0.25, 0.9, 1.1, 4], 1.0) == pytest.approx(2, abs=0.2)  # a step at 2
    assert log_slope([1, 2], [0.1, 0.2], 1.0) is None  # not passed
    assert log_slope([1, 2], [3.0, 4.0], 1.0) is None
    assert log_slope([1, 2, 4], [-0.2, 0.0, 4.0], 1.0) is None  # nothing positive under it
    assert log_slope([1, 2, 4], [-0.2, 0.5, 1.5], 1.0) == pytest.approx(np.log2(3))
