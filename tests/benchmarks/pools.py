"""Token values of many prompts at many doses, recorded once on a model: what coverage is simulated from.

A recording is kept in the user's cache folder under the hash of everything that it follows from."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isokl_bench.engine.answers import AnswerTokens
from isokl_bench.engine.calibrate import Calibrator
from isokl_bench.engine.fork import fork
from isokl_bench.engine.rollout import rollout
from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.fit import fit
from isokl_bench.pipeline.model_cache import load_model
from isokl_bench.pipeline.plan import resolve
from isokl_db import config_hash
from isokl_registry import Site, TokenValues, load_registry

Array = NDArray[np.float64]
TOKENS, PROMPTS, FEW = 20, 128, 8  # FEW: prompts on which the doses are centred
SPREAD, DOSES = 2.5, 11  # from so far below to so far above the coefficient of the few
ALPHAS = (0.0, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Pool:
    """doses [k], ascending; kl, nll [k, prompt, token] steered, own [prompt, token]: NLL of the unsteered
    text; NaN where a row has ended. ratio [alpha, prompt]: log p(target answer) − log p(other) at the start
    of the reply."""

    doses: Array
    kl: Array
    nll: Array
    own: Array
    ratio: Array

    def at(self, dose: int) -> TokenValues:
        return TokenValues(self.kl[dose], self.nll[dose])

    @property
    def base(self) -> TokenValues:
        return TokenValues(np.where(np.isnan(self.own), np.nan, 0.0), self.own)


def pool(model: str, behavior: str, cache: Path) -> Pool:
    """The recording, made now unless it was before."""
    config = RunConfig(
        model,
        "mean_diff",
        behavior,
        window=TOKENS,
        fit_prompts=32,
        calibration_prompts=FEW,
        holdout_prompts=PROMPTS,
    )
    plan = resolve(config, load_registry())
    path = cache / f"{config_hash(plan.identity | {'spread': SPREAD, 'doses': DOSES})[:16]}.npz"
    if path.is_file():
        with np.load(path) as arrays:
            return Pool(**arrays)
    lm = load_model(plan)
    steering = fit(plan, lm, [Site(layer) for layer in plan.layers])
    few, many = (
        [lm.chat.ids(p.text) for p in some] for some in (plan.splits.calibration, plan.splits.holdout)
    )
    centre = Calibrator(lm, steering, few, TOKENS, plan.stat, plan.target, 0.05).run(1).coefficient
    doses = np.geomspace(centre / SPREAD, centre * SPREAD, DOSES)
    found = rollout(lm, many, steering, [0.0, *doses], TOKENS)
    answer = AnswerTokens.of(plan.prompts.answer, lm)
    nothing = np.zeros((len(ALPHAS), PROMPTS, 0), dtype=np.int64)
    forks = fork(lm, many, nothing, steering, [alpha * centre for alpha in ALPHAS], [0], answer)
    ratio = (forks.log_mass_first - forks.log_mass_second)[..., 0]
    target = np.array([1 if prompt.first else -1 for prompt in plan.splits.holdout])
    made = Pool(doses, found.kl[1:], found.nll[1:], found.nll[0], ratio * target)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **asdict(made))
    return made
