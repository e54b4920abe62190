"""Finding the dose at which a stat of the rollouts equals its target, many doses per round."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from isokl_bench.engine.diagnose import explain_nonfinite
from isokl_bench.engine.generate import Tell
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import Rollout, rollout, unknown_values
from isokl_bench.engine.search import Evaluation, Found, Round, Search, first_doses
from isokl_bench.engine.steering import Steering
from isokl_bench.engine.teacher_forcing import teacher_forced
from isokl_bench.engine.transcript import Ints
from isokl_db import Outcome
from isokl_registry import IsoklError, Stat, TokenValues

SMALLEST, LARGEST = 1e-4, 1e6  # |dose| tried where a method's range has no end of its own
# What the cheap look reads: so many prompts, and so many of their last tokens.
LOOK_PROMPTS, LOOK_TOKENS = 1, 12


@dataclass(frozen=True)
class Calibration:
    """The result of one search, with everything that was tried; doses are signed.

    outcome: converged, jump, budget_not_reached or budget_exceeded. coefficient: the dose that was found.
    value: the stat there. dose_above, value_above: after a jump, the other side. low, high: 95 % interval of
    the coefficient over prompts, None where it is open and where the target was not crossed. pool: tokens
    that the stat saw at the coefficient, of prompts × window. slope: d log stat / d log dose at the target,
    None after a jump and where it was not crossed.
    """

    sign: int
    outcome: Outcome
    coefficient: float
    value: float
    target: float
    tolerance: float
    low: float | None
    high: float | None
    dose_above: float | None
    value_above: float | None
    rounds: int
    pool: int
    slope: float | None
    evaluations: tuple[Evaluation, ...]


Report = Callable[[Sequence[Evaluation]], None]


@dataclass
class Calibrator:
    """Drives a stat to its target on greedy rollouts, by the search of `search.Search`.

    Args:
        lm: the model.
        steering: what is calibrated; its method's `dose_range` bounds the search.
        prompts: token ids of each of n prompts.
        window: tokens of every rollout.
        stat: what is driven to `target`, in its unit.
        target: the budget.
        tolerance: how far from the target the stat may be, in its unit.
        report: called after every round with what it gave, signed.
        tell: called within rounds with the share that may be done: how many there will be is not known, so
            each is taken for half of what is left.
    """

    lm: LanguageModel
    steering: Steering
    prompts: Sequence[Sequence[int]]
    window: int
    stat: Stat
    target: float
    tolerance: float
    report: Report = lambda evaluations: None
    tell: Tell = lambda share: None
    _texts: dict[float, Ints] = field(default_factory=dict)  # what each dose tried has written, [n, token]

    def run(self, sign: int) -> Calibration:
        """Search among doses of one sign.

        Args:
            sign: 1 or −1.

        Returns:
            The calibration. It depends on the numbers alone, never on how rows were batched.

        Raises:
            IsoklError: when no dose at all gives finite logits, or the base model's are not finite.
        """
        self._sign = sign
        self._texts.clear()
        self._base = self._base_values()
        least, most = self._range()
        search = Search(self.target, self.tolerance, least, most, self._read, self._report)
        found = search.run(first_doses(self._look, self.target, least, most))
        return self._calibration(found, search.tried)

    def _base_values(self) -> TokenValues:
        if self.stat.needs_base:
            return rollout(self.lm, self.prompts, self.steering, [0.0], self.window).values(0)
        return unknown_values(len(self.prompts), self.window)

    def _range(self) -> tuple[float, float]:
        low, high = self.steering.method.dose_range
        if not 0 <= low < high:
            name = self.steering.method.label()
            raise IsoklError(
                f"{name} has the dose range ({low:g}, {high:g}): it should be ascending, from 0 or more"
            )
        return max(low, SMALLEST), min(high, LARGEST)

    def _look(self, doses: Sequence[float]) -> list[float]:
        """The stat over what the last tokens of a few prompts would be followed by."""
        prompts, signed = self.prompts[:LOOK_PROMPTS], [self._sign * dose for dose in doses]
        found, base = teacher_forced(self.lm, prompts, self.steering, signed, LOOK_TOKENS)
        if not self.stat.needs_base:
            base = unknown_values(*base.kl.shape)
        values = [float(self.stat(values, base)) for values in found]
        if not np.isfinite(values).any():
            raise IsoklError(explain_nonfinite(self.lm, prompts, self.steering, signed[0]))
        return values

    def _read(self, asked: Round) -> list[Evaluation]:
        """Roll the doses of a round out, each as far as the round needs it."""
        found = rollout(
            self.lm,
            self.prompts,
            self.steering,
            [self._sign * dose for dose in asked.doses],
            self.window,
            too_strong=lambda i, partial: asked.may_drop(i, self._stat(partial)),
            drafts=self._drafts(asked.doses),
            tell=lambda share: self.tell(1 - 0.5 ** (asked.number - 1) * (1 - share / 2)),
        )
        self._texts |= zip(asked.doses, found.tokens, strict=True)
        return [self._evaluation(asked, found, i) for i in range(len(asked.doses))]

    def _evaluation(self, asked: Round, found: Rollout, i: int) -> Evaluation:
        dose = asked.doses[i]
        if not found.finite[i]:
            return asked.broken(dose)
        if not found.complete[i]:
            return asked.too_strong(dose)
        values, tokens = found.values(i), int((found.tokens[i] >= 0).sum())
        ends = self.stat.interval(values, self._base)
        return Evaluation(asked.number, dose, self._stat(values), tokens, True, ends)

    def _stat(self, values: TokenValues) -> float:
        return float(self.stat(values, self._base))

    def _drafts(self, doses: Sequence[float]) -> Ints | None:
        """What the nearest dose tried has written, [dose, prompt, token], as far as the neighbours on both
        sides agree: most of it will be written again."""
        if not self._texts:
            return None
        tried = np.array(sorted(self._texts))
        drafts = []
        for dose in doses:
            nearest = int(np.abs(np.log(tried / dose)).argmin())
            above = int(np.searchsorted(tried, dose).clip(0, len(tried) - 1))
            below = above if tried[above] == dose else max(above - 1, 0)
            low, high, text = (self._texts[tried[i]] for i in (below, above, nearest))
            agree = np.logical_and.accumulate((low == high) | (low < 0) | (high < 0), axis=1)
            drafts.append(np.where(agree, text, -1))
        return np.stack(drafts)

    def _report(self, evaluations: Sequence[Evaluation]) -> None:
        self.report([self._signed(one) for one in evaluations])

    def _signed(self, evaluation: Evaluation) -> Evaluation:
        return replace(evaluation, dose=self._sign * evaluation.dose)

    def _calibration(self, found: Found, tried: Sequence[Evaluation]) -> Calibration:
        low = self._sign * found.low if found.low > 0 else None
        high = self._sign * found.high if found.high < math.inf else None
        above = self._signed(found.above) if found.above else None
        return Calibration(
            sign=self._sign,
            outcome=found.outcome,
            coefficient=self._sign * found.chosen.dose,
            value=found.chosen.value,
            target=self.target,
            tolerance=self.tolerance,
            low=low if self._sign > 0 else high,
            high=high if self._sign > 0 else low,
            dose_above=above.dose if above else None,
            value_above=above.value if above else None,
            rounds=found.rounds,
            pool=found.chosen.tokens,
            slope=found.slope,
            evaluations=tuple(self._signed(one) for one in tried),
        )
