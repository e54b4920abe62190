"""One run from prompts to stored numbers: fit, calibrate, validate, measure, each phase stored as it finishes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isokl_bench.bootstrap import closed
from isokl_bench.engine.activations import record
from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.calibrate import Calibration, Calibrator
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import Rollout, unknown_values
from isokl_bench.engine.search import Evaluation
from isokl_bench.engine.steering import Steering
from isokl_bench.pipeline.config import Plan
from isokl_bench.pipeline.events import Event, Listener, one_line
from isokl_bench.pipeline.generation import GREEDY, SAMPLED, VALIDATION, to_generate
from isokl_bench.pipeline.intervention import Ask, Intervention, Prompted, Steered
from isokl_bench.pipeline.model_cache import ModelCache
from isokl_bench.pipeline.phases import (
    NO_DOSE,
    REACHED,
    alpha_list,
    generate_phase,
    metric_phase,
    missing_in,
    missing_metrics,
    phase_names,
    signs,
    trace_prefix,
    validate_phase,
    weight,
)
from isokl_bench.pipeline.session import MeasureSession
from isokl_bench.pipeline.to_rows import calibration_row, measurement_rows
from isokl_db import Attempt, Phase, StoreError
from isokl_db import rows as stored
from isokl_registry import (
    Contrast,
    IsoklError,
    Method,
    Metric,
    Prompt,
    PromptMethod,
    Registry,
    Site,
    TokenValues,
)


class PartlyFailed(IsoklError):
    """Some metrics failed; the calibration and the other metrics are stored."""


@dataclass
class Runner:
    """Carries out a plan and stores every phase in `attempt`. Runs with the same model_cache load their model once."""

    plan: Plan
    attempt: Attempt
    registry: Registry
    listen: Listener
    model_cache: ModelCache = field(default_factory=ModelCache)

    def run(self) -> None:
        """Do what is missing. Raises IsoklError; phases that are stored stay stored."""
        self.done = self.attempt.phases()
        self.total = self.left = weight(phase_names(self.plan, self.done))
        self.ahead = 0.0  # the weight of what the phase at hand has done
        self.say("phase", f"loading {self.plan.identity['model']}")
        self.lm = self.model_cache.model(self.plan, partial(self.say, "note"))
        self.lm.notify = partial(self.say, "note")
        for note in self.lm.notes:
            self.say("note", note)
        self.answer = AnswerTokens.of(self.plan.prompts.answer, self.lm)
        if isinstance(self.plan.method, Method):
            self.steering = self._fitted()
        failed = []
        for sign in signs(self.plan):
            calibration, intervention = self._prepared(sign)
            if calibration["outcome"] not in REACHED:
                self.say(
                    "note",
                    f"{calibration['outcome'].replace('_', ' ')}: nothing is measured for sign {sign:+d}",
                )
                continue
            if asked := to_generate(self.plan, sign, self.done):
                made = self._generate(sign, intervention, asked)
                self._validate(sign, intervention, asked, made)
                failed += self._measure(sign, intervention, asked, made)
        if failed:
            raise PartlyFailed(f"{'; '.join(failed)}. Everything else is stored; run again to retry")

    def say(self, kind: str, text: str, **data: Any) -> None:
        self.listen(Event(kind, text, 1 - (self.left - self.ahead) / self.total if self.total else 1.0, data))

    def progress(self, name: str, text: str) -> Callable[[float], None]:
        """What is to be called with the share of a phase that is done; said when a hundredth more is."""
        whole = weight([name])

        def tell(share: float) -> None:
            if share * whole >= self.ahead + 0.01 * whole:
                self.ahead = share * whole
                self.say("progress", text)

        return tell

    @contextmanager
    def phase(self, name: str, text: str) -> Iterator[Phase]:
        """A phase whose rows are stored in one transaction when its block ends well."""
        self.ahead = 0.0
        self.say("phase", text, phase=name)
        try:
            with self.attempt.phase(name) as phase:
                yield phase
        except StoreError:
            if name not in self.attempt.phases():
                raise
            self.say("note", "another process has stored this meanwhile")
        self.done[name] = phase.data
        self.left -= weight([name])
        self.ahead = 0.0

    def _prepared(self, sign: int) -> tuple[dict[str, Any], Intervention]:
        """What is to be measured, and the data of its calibration."""
        method = self.plan.method
        if isinstance(method, PromptMethod):
            prompted = Prompted(self.lm, self._system(method, sign))
            self.say("note", "a prompt has no dose: it is measured at alpha 1, beside the model without it")
            return self._read_once(sign, prompted), prompted
        calibration = self._calibrated(sign)
        return calibration, Steered(self.lm, self.steering, calibration["coefficient"])

    def _system(self, method: PromptMethod, sign: int) -> str:
        try:
            text = method.system(self.plan.prompts, sign)
        except ValueError as error:
            raise IsoklError(
                f"{method.label()} has no prompt for {self.plan.behavior.name}: {error}"
            ) from error
        if not isinstance(text, str) or not text.strip():
            raise IsoklError(f"{method.label()} gives {text!r} as a system message: it should give a text")
        return text

    def _fitted(self) -> Steering:
        assert isinstance(self.plan.method, Method)
        data = self.attempt.steering()
        if data is not None:
            return Steering.from_bytes(data, self.registry)
        sites = self.lm.sites(self.plan.layers, self.plan.method.linears)
        text = f"fitting {self.plan.method.label()} on {len(self.plan.splits.fit)} contrast pairs at {len(sites)} site(s)"
        with self.phase("fit", text) as phase:
            steering = fit(self.plan, self.lm, sites, self.model_cache.record)
            phase.steering = steering.to_bytes()
        return steering

    def _calibrated(self, sign: int) -> dict[str, Any]:
        name = f"calibrate {sign:+d}"
        if name in self.done:
            return dict(self.done[name])
        plan = self.plan
        text = f"calibrating {'−' if sign < 0 else '+'} to {plan.stat.label()} = {plan.target:g}"
        calibrator = Calibrator(
            self.lm,
            self.steering,
            [self.lm.chat.ids(prompt.text) for prompt in plan.splits.calibration],
            plan.config.window,
            plan.stat,
            plan.target,
            plan.config.tolerance,
            self._report_round,
            self.progress(name, text),
        )
        with self.phase(name, text) as phase:
            found = calibrator.run(sign)
            phase.calibrations = [calibration_row(found, plan.stat.label(), len(plan.splits.calibration))]
            phase.data = _found(found)
            calibrated = self.steering.metadata.get("calibrated", {}) | {
                f"{sign:+d}": phase.data
                | {"stat": plan.stat.label(), "target": plan.target, "protocol": plan.config.protocol}
            }
            self.steering = replace(
                self.steering, metadata=self.steering.metadata | {"calibrated": calibrated}
            )
            phase.steering = self.steering.to_bytes()
        text = f"{found.outcome.replace('_', ' ')}: coefficient {found.coefficient:.4g}, {plan.stat.label()} {found.value:.3f}"
        self.say("note", text)
        return dict(phase.data)

    def _read_once(self, sign: int, prompted: Prompted) -> dict[str, Any]:
        """The stat on the calibration prompts, stored as the calibration of what has no dose."""
        name, plan = f"calibrate {sign:+d}", self.plan
        if name in self.done:
            return dict(self.done[name])
        stat, prompts = plan.stat.label(), plan.splits.calibration
        with self.phase(
            name, f"reading {stat} under the prompt on {len(prompts)} calibration prompts"
        ) as phase:
            steered, base = self._read(prompted, prompts)
            value = float(plan.stat(steered, base))
            found = Calibration(
                sign,
                NO_DOSE,
                1.0,
                value,
                plan.target,
                plan.config.tolerance,
                *(None,) * 4,
                rounds=0,
                pool=int((~np.isnan(steered.kl)).sum()),
                slope=None,
                evaluations=(),
            )
            phase.calibrations = [calibration_row(found, stat, len(prompts))]
            phase.data = _found(found)
        self.say("note", f"no dose: {stat} {value:.3f}")
        return dict(phase.data)

    def _report_round(self, evaluations: Sequence[Evaluation]) -> None:
        pairs = ", ".join(f"{e.dose:.4g}→{'' if e.complete else '>'}{e.value:.3g}" for e in evaluations)
        number = evaluations[0].round if evaluations else 0
        values = [
            {"dose": e.dose, "value": e.value if math.isfinite(e.value) else None, "complete": e.complete}
            for e in evaluations
        ]
        self.say("round", f"round {number}: {pairs}", round=number, evaluations=values)

    def _read(self, intervention: Intervention, prompts: Sequence[Prompt]) -> tuple[TokenValues, TokenValues]:
        """What the stat is told of some prompts: the greedy rollout at alpha 1, and the base model's own."""
        alphas = [1.0, 0.0] if self.plan.stat.needs_base else [1.0]
        ask = Ask([prompt.text for prompt in prompts], alphas, self.plan.config.window)
        (found,) = intervention.rollouts([ask])
        return self._values(intervention, ask, found)

    def _values(
        self, intervention: Intervention, ask: Ask, found: Rollout
    ) -> tuple[TokenValues, TokenValues]:
        """The same of a rollout that was made at alpha 1, and at 0 if the stat needs that."""
        if not found.finite[0]:
            raise IsoklError(intervention.explain(ask.texts, 1.0))
        steered = found.values(0)
        return steered, found.values(1) if len(ask.alphas) > 1 else unknown_values(*steered.kl.shape)

    def _generate(self, sign: int, intervention: Intervention, asked: dict[str, Ask]) -> dict[str, Rollout]:
        """Every rollout that is asked for, all in one. It is a phase for its time's sake: it stores nothing."""
        rows = sum(len(ask.texts) * len(ask.alphas) for ask in asked.values())
        text = f"generating up to {max(ask.window for ask in asked.values())} tokens in {rows} replies"
        name = generate_phase(sign, self.done)
        with self.phase(name, text):
            tell = self.progress(name, text)
            found = intervention.rollouts(list(asked.values()), keep_caches=True, tell=tell)
        return dict(zip(asked, found, strict=True))

    def _validate(
        self, sign: int, intervention: Intervention, asked: dict[str, Ask], made: dict[str, Rollout]
    ) -> None:
        """The stat again: greedy on other prompts, and sampled at temperature 1 on both sets."""
        name = validate_phase(sign)
        if name in self.done:
            return
        with self.phase(name, "validating on holdout prompts, and on sampled texts") as phase:
            for quantity in VALIDATION:
                steered, base = self._values(intervention, asked[quantity], made[quantity])
                low, high = map(closed, self.plan.stat.interval(steered, base))
                phase.summaries.append(
                    stored.Summary(
                        sign=1 if sign > 0 else -1,
                        metric="validation",
                        quantity=quantity,
                        alpha=1.0,
                        n=len(steered.kl),
                        mean=float(self.plan.stat(steered, base)),
                        low=low,
                        high=high,
                    )
                )
        self.say("note", ", ".join(f"{s.quantity} {s.mean:.3f}" for s in phase.summaries))

    def _measure(
        self, sign: int, intervention: Intervention, asked: dict[str, Ask], made: dict[str, Rollout]
    ) -> list[str]:
        """Store every metric and trace that is missing; returns a line for each that failed (a stranger's code may)."""
        broken = {  # measure what can be measured, and say what cannot
            alpha: intervention.explain(asked[name].texts, alpha)
            for name in (GREEDY, SAMPLED)
            for alpha, finite in zip(asked[name].alphas, made[name].finite, strict=True)
            if not finite
        }
        session = self._session(intervention, asked[GREEDY], made.pop(GREEDY))
        failed = [*broken.values(), *self._measure_all(sign, session)]
        session.greedy.snapshots.clear()
        missing = missing_in(self.plan.alphas, trace_prefix(sign), self.done)
        if alphas := [alpha for alpha in missing if alpha not in broken]:
            self._trace(sign, alphas, made[SAMPLED].at([asked[SAMPLED].alphas.index(a) for a in alphas]))
        return failed

    def _session(self, intervention: Intervention, ask: Ask, found: Rollout) -> MeasureSession:
        """Of the alphas at which the model has not broken."""
        finite = [int(place) for place in found.finite.nonzero()[0]]
        alphas = [ask.alphas[place] for place in finite]
        return MeasureSession(intervention, alphas, self.plan.splits.holdout, self.answer, found.at(finite))

    def _measure_all(self, sign: int, session: MeasureSession) -> list[str]:
        failed = []
        for metric, missing in missing_metrics(self.plan, sign, self.done).items():
            alphas = [alpha for alpha in missing if alpha in session.alphas]
            if not alphas:
                continue
            try:
                self._measure_one(session, metric, sign, alphas)
            except StoreError:
                raise
            except Exception as error:
                failed.append(f"metric {metric.label()!r} failed: {one_line(error)}")
        return failed

    def _measure_one(self, session: MeasureSession, metric: Metric, sign: int, alphas: list[float]) -> None:
        with self.phase(
            metric_phase(metric, sign, alphas), f"measuring {metric.label()} at alpha {alpha_list(alphas)}"
        ) as phase:
            for found in metric.measure(session):
                rows = measurement_rows(metric, found, session.alphas, alphas, sign, self.plan.config.seed)
                phase.measurements += rows[0]
                phase.summaries += rows[1]
            phase.data = {"alphas": alphas}

    def _trace(self, sign: int, alphas: Sequence[float], found: Rollout) -> None:
        with self.phase(trace_prefix(sign) + alpha_list(alphas), "storing example texts") as phase:
            decode = self.lm.tokenizer.decode
            for a, p in np.ndindex(*found.tokens.shape[:2]):
                ids = [token for token in found.tokens[a, p].tolist() if token >= 0]
                phase.traces.append(
                    stored.Trace(
                        sign=1 if sign > 0 else -1,
                        alpha=alphas[a],
                        prompt=p,
                        sampled=True,
                        text=decode(ids),
                        tokens=[decode([token]) for token in ids],
                        kl=found.kl[a, p, : len(ids)].tolist(),
                    )
                )
            phase.data = {"alphas": list(alphas)}


def _found(calibration: Calibration) -> dict[str, Any]:
    """What later phases need to know of a calibration."""
    value = calibration.value if math.isfinite(calibration.value) else None
    return {"outcome": calibration.outcome, "coefficient": calibration.coefficient, "value": value}


Recorder = Callable[[LanguageModel, Sequence[Sequence[int]], Sequence[Site]], dict[Site, Tensor]]


def fit(plan: Plan, lm: LanguageModel, sites: Sequence[Site], record: Recorder = record) -> Steering:
    """Fit the plan's method at every site. Row i of both halves has the same message, persona pair and position.

    Raises IsoklError naming the site when the contrast allows no fit."""
    assert isinstance(plan.method, Method)
    prefix = plan.prompts.answer.prefill if plan.config.position == "answer" else ""
    halves: list[list[list[int]]] = [[], []]
    for i, prompt in enumerate(plan.splits.fit):
        personas = plan.prompts.personas[i % len(plan.prompts.personas)]
        for half, persona in zip(halves, personas, strict=True):
            half.append(lm.chat.ids(prompt.text, system=persona, prefix=prefix))
    positive, negative = record(lm, halves[0], sites), record(lm, halves[1], sites)
    state = {}
    for site in sites:
        contrast = Contrast(positive[site], negative[site], site, lm.module(site), plan.config.seed)
        torch.manual_seed(plan.config.seed)
        try:
            state[site] = plan.method.fit(contrast)
        except ValueError as error:
            raise IsoklError(f"{plan.method.label()} cannot be fitted at block {site}: {error}") from error
    return Steering(plan.method, state, _metadata(plan, plan.method))


def _metadata(plan: Plan, method: Method) -> dict[str, Any]:
    return {
        "site": "output of a Linear" if method.linears else "output of a transformer block",
        "layers": list(plan.layers),
        "layer_numbering": "0 is the first transformer block",
        "position": f"last token of the {'prefill of the answer' if plan.config.position == 'answer' else 'prompt'}",
        "model": plan.identity["model_identity"],
        "behavior": plan.behavior.name,
        "behavior_hash": plan.identity["behavior_hash"],
        "sign": "a positive dose is meant to move towards the positive persona",
    }
