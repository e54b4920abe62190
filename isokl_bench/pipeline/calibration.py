"""The calibration phase of one sign: a search for the dose, or one reading where there is no dose to find."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from isokl_bench.engine.calibrate import Calibration, Calibrator
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.search import Evaluation
from isokl_bench.engine.steering import Steering
from isokl_bench.pipeline.intervention import Ask, Prompted
from isokl_bench.pipeline.journal import Journal
from isokl_bench.pipeline.phases import Kind, Phase
from isokl_bench.pipeline.plan import Plan
from isokl_bench.pipeline.stat_reading import StatReading
from isokl_bench.pipeline.to_rows import calibration_row
from isokl_db import Outcome


def calibrate(plan: Plan, lm: LanguageModel, steering: Steering, journal: Journal, sign: int) -> Steering:
    """Find the dose of one sign and store it, unless that was done before.

    Returns:
        The steering, whose metadata then holds the coefficient. What was found is in `journal.done`.
    """
    phase = Phase(Kind.CALIBRATE, sign)
    if phase in journal.done:
        return steering
    stat, config = plan.stat.label(), plan.config
    text = f"calibrating {'−' if sign < 0 else '+'} to {stat} = {plan.target:g}"
    calibrator = Calibrator(
        lm,
        steering,
        [lm.chat.ids(prompt.text) for prompt in plan.splits.calibration],
        config.window,
        plan.stat,
        plan.target,
        config.tolerance,
        lambda evaluations: _tell_round(journal, evaluations),
        journal.progress(phase, text),
    )
    with journal.phase(phase, text) as content:
        found = calibrator.run(sign)
        content.calibrations = [calibration_row(found, stat, len(plan.splits.calibration))]
        content.data = _data(found)
        settings = {"stat": stat, "target": plan.target, "protocol": config.protocol}
        known = steering.metadata.get("calibrated", {}) | {f"{sign:+d}": content.data | settings}
        steering = replace(steering, metadata=steering.metadata | {"calibrated": known})
        content.steering = steering.to_bytes()
    journal.note(f"{found.outcome.words}: coefficient {found.coefficient:.4g}, {stat} {found.value:.3f}")
    return steering


def read_without_dose(plan: Plan, prompted: Prompted, journal: Journal, sign: int) -> None:
    """Store the stat on the calibration prompts as the calibration of what has no dose."""
    phase, stat, prompts = Phase(Kind.CALIBRATE, sign), plan.stat, plan.splits.calibration
    if phase in journal.done:
        return
    text = f"reading {stat.label()} under the prompt on {len(prompts)} calibration prompts"
    with journal.phase(phase, text) as content:
        ask = Ask([prompt.text for prompt in prompts], StatReading.alphas(stat), plan.config.window)
        reading = StatReading.checked(prompted, ask, *prompted.rollouts([ask]))
        found = Calibration(
            sign=sign,
            outcome=Outcome.NO_DOSE,
            coefficient=1.0,
            value=reading.value(stat),
            target=plan.target,
            tolerance=plan.config.tolerance,
            low=None,
            high=None,
            dose_above=None,
            value_above=None,
            rounds=0,
            pool=reading.tokens,
            slope=None,
            evaluations=(),
        )
        content.calibrations = [calibration_row(found, stat.label(), len(prompts))]
        content.data = _data(found)
    journal.note(f"no dose: {stat.label()} {found.value:.3f}")


def _data(found: Calibration) -> dict[str, Any]:
    """What later phases need to know of a calibration."""
    value = found.value if math.isfinite(found.value) else None
    return {"outcome": found.outcome.value, "coefficient": found.coefficient, "value": value}


def _tell_round(journal: Journal, evaluations: Sequence[Evaluation]) -> None:
    pairs = ", ".join(f"{e.dose:.4g}→{'' if e.complete else '>'}{e.value:.3g}" for e in evaluations)
    number = evaluations[0].round if evaluations else 0
    values = [
        {"dose": e.dose, "value": e.value if math.isfinite(e.value) else None, "complete": e.complete}
        for e in evaluations
    ]
    journal.say("round", f"round {number}: {pairs}", round=number, evaluations=values)
