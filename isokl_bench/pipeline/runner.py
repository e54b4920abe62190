"""One run from prompts to stored numbers: fit, then for each sign calibrate and measure."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.steering import Steering
from isokl_bench.pipeline.calibration import calibrate, read_without_dose
from isokl_bench.pipeline.events import Listener
from isokl_bench.pipeline.fit import fit
from isokl_bench.pipeline.intervention import Intervention, Prompted, Steered
from isokl_bench.pipeline.journal import Journal
from isokl_bench.pipeline.measuring import Measuring
from isokl_bench.pipeline.model_cache import ModelCache
from isokl_bench.pipeline.phases import Kind, Phase, missing_phases, signs
from isokl_bench.pipeline.plan import Plan
from isokl_db import Attempt, Outcome
from isokl_registry import IsoklError, Method, PromptMethod, Registry


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
        """Do what is missing. Phases that are stored stay stored.

        Raises:
            PartlyFailed: at the end, when some metric failed.
            IsoklError: when the run cannot go on.
        """
        self.journal = Journal(self.attempt, partial(missing_phases, self.plan), self.listen)
        self._load()
        if isinstance(self.plan.method, Method):
            self.steering = self._fitted()
        failed = []
        for sign in signs(self.plan):
            intervention = self._calibrated(sign)
            outcome = Outcome(self.journal.done[Phase(Kind.CALIBRATE, sign)]["outcome"])
            if outcome.measured:
                failed += Measuring(self.plan, self.lm, self.answer, self.journal, sign, intervention).run()
            else:
                self.journal.note(f"{outcome.words}: nothing is measured for sign {sign:+d}")
        if failed:
            raise PartlyFailed(f"{'; '.join(failed)}. Everything else is stored; run again to retry")

    def _load(self) -> None:
        self.journal.say("phase", f"loading {self.plan.identity['model']}")
        self.lm = self.model_cache.model(self.plan, self.journal.note)
        self.lm.notify = self.journal.note
        for note in self.lm.notes:
            self.journal.note(note)
        self.answer = AnswerTokens.of(self.plan.prompts.answer, self.lm)

    def _fitted(self) -> Steering:
        method, sizes = self.plan.method, len(self.plan.splits.fit)
        assert isinstance(method, Method)
        data = self.attempt.steering()
        if data is not None:
            return Steering.from_bytes(data, self.registry)
        sites = self.lm.sites(self.plan.layers, method.linears)
        text = f"fitting {method.label()} on {sizes} contrast pairs at {len(sites)} site(s)"
        with self.journal.phase(Phase(Kind.FIT), text) as content:
            steering = fit(self.plan, self.lm, sites, self.model_cache.activations)
            content.steering = steering.to_bytes()
        return steering

    def _calibrated(self, sign: int) -> Intervention:
        """What is to be measured, its strength found and stored."""
        method = self.plan.method
        if isinstance(method, PromptMethod):
            prompted = Prompted(self.lm, self._system(method, sign))
            self.journal.note("a prompt has no dose: it is measured at alpha 1, beside the model without it")
            read_without_dose(self.plan, prompted, self.journal, sign)
            return prompted
        self.steering = calibrate(self.plan, self.lm, self.steering, self.journal, sign)
        found = self.journal.done[Phase(Kind.CALIBRATE, sign)]
        return Steered(self.lm, self.steering, found["coefficient"])

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
