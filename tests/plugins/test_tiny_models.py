"""The shipped models through the whole tool: they can answer unsteered, and lose it when steered too hard."""

from __future__ import annotations

import numpy as np
import pytest

import isokl_bench


@pytest.mark.parametrize("model", ["tiny-qwen", "tiny-llama", "tiny-gemma"])
def test_answers_are_there_unsteered_and_fewer_at_alpha_4(model, tmp_path):
    record = isokl_bench.run(
        model,
        "mean_diff",
        behavior="authority",
        protocol="published",
        holdout_prompts=12,
        alphas=(1.0, 4.0),
        metrics=("branch_pmass", "base_nll", "target_logit"),
        db=tmp_path / "isokl.db",
    )
    assert record.calibration()["outcome"] in ("converged", "jump")
    pmass = np.nanmean(record.array("branch_pmass", "pmass"), axis=(1, 2))
    assert pmass[0] > 0.95
    assert pmass[2] < pmass[0]
    nll = record.array("base_nll", "nll_ratio").mean(axis=(1, 2))
    assert nll[0] == pytest.approx(1)
    assert nll[2] > 2
