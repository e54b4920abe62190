"""From the engine's arrays to the store's rows: NaN becomes NULL with its reason, means get their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from isokl_bench.bootstrap import mean_intervals
from isokl_bench.engine.calibrate import Calibration
from isokl_bench.engine.rollout import Rollout
from isokl_db import rows as stored
from isokl_registry import IsoklError, Measurement, Metric

Array = NDArray[np.float64]


def calibration_row(found: Calibration, stat: str, prompts: int) -> stored.Calibration:
    """The store's row of a calibration, with all its evaluations; a dose whose logits were not finite has no pool."""
    evaluations = [
        stored.Evaluation(
            round=e.round,
            dose=e.dose,
            value=e.value if math.isfinite(e.value) else None,
            tokens=e.tokens,
            complete=e.complete,
        )
        for e in found.evaluations
    ]
    return stored.Calibration(
        sign=1 if found.sign > 0 else -1,
        stat=stat,
        target=found.target,
        tolerance=found.tolerance,
        outcome=found.outcome,
        coefficient=found.coefficient,
        value=found.value if math.isfinite(found.value) else None,
        n_prompts=prompts,
        rounds=found.rounds,
        low=found.low,
        high=found.high,
        dose_above=found.dose_above,
        value_above=found.value_above if found.value_above and math.isfinite(found.value_above) else None,
        pool=found.pool or None,
        slope=found.slope,
        evaluations=evaluations,
    )


def measurement_rows(
    metric: Metric, found: Measurement, alphas: Sequence[float], keep: Sequence[float], sign: int, seed: int
) -> tuple[list[stored.Measurement], list[stored.Summary]]:
    """Rows of one quantity, and of its mean over prompts at each alpha and position.

    Args:
        metric: whose quantity it is.
        found: what it measured.
        alphas: at which it did, the first axis of the values.
        keep: those of them whose rows are wanted.
        sign: 1 or −1.
        seed: of the bootstrap.

    Raises:
        IsoklError: when a metric returns another shape than it should, infinity, or a share that is none.
    """
    values, positions = _checked(metric, found, alphas)
    measurements: list[stored.Measurement] = []
    summaries: list[stored.Summary] = []
    for a in (i for i, alpha in enumerate(alphas) if alpha in keep):
        where = {
            "sign": 1 if sign > 0 else -1,
            "metric": metric.label(),
            "quantity": found.quantity,
            "alpha": alphas[a],
        }
        measurements += _scores(values[a], positions, found.reason, where)
        summaries += _means(values[a], positions, found, seed, where)
    return measurements, summaries


def _scores(
    values: Array, positions: Sequence[int | None], reason: str, where: dict[str, Any]
) -> Iterator[stored.Measurement]:
    """Each value, [prompt, position]."""
    for prompt, position in np.ndindex(values.shape):
        value = float(values[prompt, position])
        missing = math.isnan(value)
        yield stored.Measurement(
            **where,
            prompt=prompt,
            position=positions[position],
            value=None if missing else value,
            reason=reason if missing else None,
        )


def _means(
    values: Array, positions: Sequence[int | None], found: Measurement, seed: int, where: dict[str, Any]
) -> Iterator[stored.Summary]:
    """The mean over prompts at each position, of values [prompt, position]."""
    for interval, position in zip(mean_intervals(values.T, seed, share=found.share), positions, strict=True):
        yield stored.Summary(
            **where,
            position=position,
            n=interval.n if interval else 0,
            mean=interval.mean if interval else None,
            low=interval.low if interval else None,
            high=interval.high if interval else None,
            reason=None if interval else found.reason,
        )


def trace_rows(
    found: Rollout, alphas: Sequence[float], sign: int, decode: Callable[[list[int]], str]
) -> list[stored.Trace]:
    """One row per alpha and prompt of a sampled rollout, with its text and the KL of each token."""
    traces = []
    for a, p in np.ndindex(*found.tokens.shape[:2]):
        ids = [token for token in found.tokens[a, p].tolist() if token >= 0]
        traces.append(
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
    return traces


def _checked(
    metric: Metric, found: Measurement, alphas: Sequence[float]
) -> tuple[Array, Sequence[int | None]]:
    """The values, [alpha, prompt, position], and the positions, when they are what they should be."""
    values = np.asarray(found.values, dtype=float)
    positions: Sequence[int | None] = [None] if found.positions is None else list(found.positions)
    if found.positions is None:
        values = values[..., None]
    if values.ndim != 3 or values.shape[0] != len(alphas) or values.shape[2] != len(positions):
        raise IsoklError(
            f"metric {metric.label()!r} returns {found.quantity!r} of shape {values.shape} for {len(alphas)} alphas and "
            f"{len(positions)} positions: return [alpha, prompt] or [alpha, prompt, position]"
        )
    if np.isinf(values).any():
        raise IsoklError(
            f"metric {metric.label()!r} returns infinity in {found.quantity!r}: return NaN with a reason"
        )
    if np.isnan(values).any() and not found.reason:
        raise IsoklError(f"metric {metric.label()!r} returns NaN in {found.quantity!r} without a reason")
    if found.share and not (np.isnan(values) | (values == 0) | (values == 1)).all():
        raise IsoklError(
            f"metric {metric.label()!r} returns {found.quantity!r} as a share with other values than 0 and 1: leave "
            "share=True out"
        )
    return values, positions
