"""What is measured of one sign once its strength is known: all that is missing, from rollouts made in one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import Rollout
from isokl_bench.pipeline.events import one_line
from isokl_bench.pipeline.generation import GREEDY, SAMPLED, VALIDATION, to_generate
from isokl_bench.pipeline.intervention import Ask, Intervention
from isokl_bench.pipeline.journal import Journal
from isokl_bench.pipeline.phases import (
    Kind,
    Phase,
    alpha_list,
    generate_phase,
    metric_phase,
    missing_metrics,
    missing_traces,
)
from isokl_bench.pipeline.plan import Plan
from isokl_bench.pipeline.session import MeasureSession
from isokl_bench.pipeline.stat_reading import StatReading
from isokl_bench.pipeline.to_rows import measurement_rows, trace_rows
from isokl_db import StoreError
from isokl_registry import Metric


@dataclass
class Measuring:
    """Generates, validates, measures and keeps texts of one sign.

    Args:
        plan: what is asked for.
        lm: the plan's model.
        answer: the tokens that write the behavior's answers.
        journal: stores each phase.
        sign: 1 or −1.
        intervention: the steering at its calibrated dose, or the prompt.
    """

    plan: Plan
    lm: LanguageModel
    answer: AnswerTokens
    journal: Journal
    sign: int
    intervention: Intervention

    def run(self) -> list[str]:
        """Store what is missing.

        Returns:
            A line for each thing that failed: a stranger's metric may, and an alpha may break the model.
        """
        asked = to_generate(self.plan, self.sign, self.journal.done)
        if not asked:
            return []
        made = self._generate(asked)
        self._validate(asked, made)
        broken = self._broken(asked, made)
        session = self._session(asked[GREEDY], made.pop(GREEDY))
        failed = [*broken.values(), *self._measure_all(session)]
        session.greedy.snapshots.clear()
        missing = missing_traces(self.plan, self.sign, self.journal.done)
        if alphas := [alpha for alpha in missing if alpha not in broken]:
            self._keep_texts(alphas, made[SAMPLED].at([asked[SAMPLED].alphas.index(a) for a in alphas]))
        return failed

    def _generate(self, asked: dict[str, Ask]) -> dict[str, Rollout]:
        """Every rollout that is asked for, all in one. It is a phase for its time's sake: it stores nothing."""
        replies = sum(len(ask.texts) * len(ask.alphas) for ask in asked.values())
        text = f"generating up to {max(ask.window for ask in asked.values())} tokens in {replies} replies"
        phase = generate_phase(self.sign, self.journal.done)
        with self.journal.phase(phase, text):
            tell = self.journal.progress(phase, text)
            found = self.intervention.rollouts(list(asked.values()), keep_caches=True, tell=tell)
        return dict(zip(asked, found, strict=True))

    def _validate(self, asked: dict[str, Ask], made: dict[str, Rollout]) -> None:
        """The stat again: greedy on other prompts, and sampled at temperature 1 on both sets."""
        phase = Phase(Kind.VALIDATE, self.sign)
        if phase in self.journal.done:
            return
        with self.journal.phase(phase, "validating on holdout prompts, and on sampled texts") as content:
            for quantity in VALIDATION:
                reading = StatReading.checked(self.intervention, asked[quantity], made[quantity])
                content.summaries.append(reading.row(self.plan.stat, self.sign, "validation", quantity))
        self.journal.note(", ".join(f"{row.quantity} {row.mean:.3f}" for row in content.summaries))

    def _broken(self, asked: dict[str, Ask], made: dict[str, Rollout]) -> dict[float, str]:
        """Alphas at which the model's logits are not finite, and why."""
        return {
            alpha: self.intervention.explain(asked[name].texts, alpha)
            for name in (GREEDY, SAMPLED)
            for alpha, finite in zip(asked[name].alphas, made[name].finite, strict=True)
            if not finite
        }

    def _session(self, ask: Ask, found: Rollout) -> MeasureSession:
        """Of the alphas at which the model has not broken."""
        finite = [int(place) for place in found.finite.nonzero()[0]]
        alphas = [ask.alphas[place] for place in finite]
        return MeasureSession(
            self.intervention, alphas, self.plan.splits.holdout, self.answer, found.at(finite)
        )

    def _measure_all(self, session: MeasureSession) -> list[str]:
        failed = []
        for metric, missing in missing_metrics(self.plan, self.sign, self.journal.done):
            alphas = [alpha for alpha in missing if alpha in session.alphas]
            if not alphas:
                continue
            try:
                self._measure(session, metric, alphas)
            except StoreError:
                raise
            except Exception as error:
                failed.append(f"metric {metric.label()!r} failed: {one_line(error)}")
        return failed

    def _measure(self, session: MeasureSession, metric: Metric, alphas: list[float]) -> None:
        phase = metric_phase(metric, self.sign, alphas)
        text = f"measuring {metric.label()} at alpha {alpha_list(alphas)}"
        with self.journal.phase(phase, text) as content:
            for found in metric.measure(session):
                seed = self.plan.config.seed
                made = measurement_rows(metric, found, session.alphas, alphas, self.sign, seed)
                content.measurements += made[0]
                content.summaries += made[1]
            content.data = {"alphas": alphas}

    def _keep_texts(self, alphas: Sequence[float], found: Rollout) -> None:
        phase = Phase(Kind.TRACES, self.sign, alphas=tuple(alphas))
        with self.journal.phase(phase, "storing example texts") as content:
            content.traces = trace_rows(found, alphas, self.sign, self.lm.tokenizer.decode)
            content.data = {"alphas": list(alphas)}
