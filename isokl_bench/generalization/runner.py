"""The stat at a calibrated coefficient, with one thing at a time changed against the calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from isokl_bench.engine.diagnose import explain_nonfinite
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.rollout import rollout
from isokl_bench.engine.sampling import Sampler
from isokl_bench.engine.steering import Steering
from isokl_bench.engine.teacher_forcing import teacher_forced
from isokl_bench.generalization.sources import Source, gap_phase, sources
from isokl_bench.pipeline.events import Event, Listener
from isokl_bench.pipeline.intervention import Ask, Steered
from isokl_bench.pipeline.model_cache import load_model
from isokl_bench.pipeline.plan import Plan
from isokl_bench.pipeline.record import Record
from isokl_bench.pipeline.stat_reading import StatReading
from isokl_db import Attempt, StoreError, Summary
from isokl_registry import IsoklError, Registry, TokenValues

METRIC = "gap"  # under which the rows are stored
REPRODUCED = 1e-3  # how near the stored value the calibration's must come


@dataclass
class GapRunner:
    """Measures every source at the coefficients of `record`, and stores one phase per sign in `attempt`."""

    plan: Plan
    record: Record
    attempt: Attempt
    registry: Registry
    listen: Listener

    def run(self, signs: Sequence[int]) -> None:
        """Measure and store these signs.

        Raises:
            IsoklError: when the calibration's stored value does not come out again; that sign is not stored then.
        """
        self.sources = sources(self.plan, self.registry)
        self.done = 0.0
        self.share = 1 / (len(signs) * sum(len(s.prompts) * s.tokens for s in self.sources))
        self.say("phase", f"loading {self.plan.identity['model']}")
        self.lm = load_model(self.plan, partial(self.say, "note"))
        self.lm.notify = partial(self.say, "note")
        for note in self.lm.notes:
            self.say("note", note)
        self.steering = self.record.steering()
        for sign in signs:
            self._measure(sign)

    def say(self, kind: str, text: str) -> None:
        self.listen(Event(kind, text, self.done))

    def _measure(self, sign: int) -> None:
        calibration, label = self.record.calibration(sign), self.plan.stat.label()
        self.say(
            "phase", f"reading {label} at {calibration['coefficient']:.4g} from {len(self.sources)} sources"
        )
        name = gap_phase(sign).to_text()
        try:
            with self.attempt.phase(name) as content:
                for source in self.sources:
                    row = self._row(source, sign, calibration["coefficient"])
                    if source is self.sources[0]:
                        self._check(row.mean, calibration["value"])
                    content.summaries.append(row)
                    self.done += self.share * len(source.prompts) * source.tokens
                    value = f"unscored: {row.reason}" if row.mean is None else f"{row.mean:.3f}"
                    self.say("note", f"{source.name}: {value}")
                content.data = {s.name: {"changed": s.changed, "tokens": s.tokens} for s in self.sources}
        except StoreError:
            if name not in self.attempt.phases():
                raise
            self.say("note", "another process has stored this meanwhile")

    def _check(self, value: float | None, wanted: float) -> None:
        if value is None or abs(value - wanted) > REPRODUCED:
            found = "no value" if value is None else f"{value:.4f}"
            device = self.record.data["provenance"].get("device", "another")
            raise IsoklError(
                f"run {self.record.hash[:12]} does not come out again: its calibration gives {found} here, {wanted:.4f} is "
                f"stored (device {device}): use the --device and the library versions of the run, or run it again with --force"
            )

    def _row(self, source: Source, sign: int, coefficient: float) -> Summary:
        ids = [self.lm.chat.ids(text) for text in source.prompts]
        limit = getattr(self.lm.config, "max_position_embeddings", None)
        if limit is not None and max(map(len, ids)) + source.tokens > limit:
            return self._unscored(source, sign, f"the model reads at most {limit} tokens")
        reading = self._reading(source, ids, coefficient)
        if np.isinf(reading.steered.kl).any():
            return self._unscored(source, sign, explain_nonfinite(self.lm, ids, self.steering, coefficient))
        return reading.row(self.plan.stat, sign, METRIC, source.name)

    def _unscored(self, source: Source, sign: int, reason: str) -> Summary:
        return Summary(
            sign=1 if sign > 0 else -1,
            metric=METRIC,
            quantity=source.name,
            alpha=1.0,
            n=len(source.prompts),
            reason=reason,
        )

    def _reading(self, source: Source, ids: Sequence[Sequence[int]], coefficient: float) -> StatReading:
        if source.reading == "base":
            return along_base(self.lm, ids, self.steering, coefficient, source.tokens)
        sampler = Sampler(self.plan.config.seed) if source.reading == "sampled" else None
        ask = Ask(source.prompts, StatReading.alphas(self.plan.stat), source.tokens, sampler)
        (found,) = Steered(self.lm, self.steering, coefficient).rollouts([ask])
        return StatReading.of(found)


def along_base(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], steering: Steering, dose: float, window: int
) -> StatReading:
    """What the steered and the base model would say next at every token of the base model's own greedy text; NaN in
    front where that text is shorter than the window. nll is of the token that the model itself
    finds likeliest, so the base model's is that of its own text."""
    written = rollout(lm, prompts, steering, [0.0], window).tokens[0]
    lengths = (written >= 0).sum(1)
    texts = [
        [*prompt, *text[: length - 1].tolist()]  # nothing is read after the last token
        for prompt, text, length in zip(prompts, written, lengths, strict=True)
    ]
    longest = max(map(len, texts))
    size = max(1, lm.max_rows(longest, window, read=longest) // 2)  # each text is read by both models
    parts: list[Any] = []
    for start in range(0, len(texts), size):
        (steered,), base = teacher_forced(lm, texts[start : start + size], steering, [dose], window)
        parts.append([steered.kl, steered.nll, base.kl, base.nll])
    in_prompt = np.arange(window) < window - lengths[:, None]
    kl, nll, base_kl, base_nll = (
        np.where(in_prompt, np.nan, np.concatenate(arrays)) for arrays in zip(*parts, strict=True)
    )
    return StatReading(TokenValues(kl, nll), TokenValues(base_kl, base_nll))
