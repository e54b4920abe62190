"""Entropic optimal transport between two small sets of masses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Array = NDArray[np.float64]
ITERATIONS = 1000  # per temperature; near 1 and with large costs, more would still creep
CLOSE = 1e-9


def sinkhorn(cost: Array, source: Array, target: Array) -> Array:
    """The plan π [k, m] ≥ 0 that minimises Σ π·cost + Σ π·log π, with row sums `source` and column sums `target`.

    cost: [k, m], in units of the entropy's weight. source: [k], target: [m], positive, each with sum 1. In the log
    domain throughout, because exp(−cost) itself is 0 from a cost of 745 on. Cooled from the largest cost down to 1,
    each temperature from the last one's potentials, because large costs take far more iterations from nothing."""
    left, right = np.log(source), np.log(target)
    g = np.zeros(len(target))
    temperature = max(1.0, float(np.ptp(cost)))
    while True:
        for _ in range(ITERATIONS):
            f = temperature * (left - logsumexp((g - cost) / temperature, axis=1))
            g = temperature * (right - logsumexp((f[:, None] - cost) / temperature, axis=0))
            plan: Array = np.exp((f[:, None] + g - cost) / temperature)
            if np.abs(plan.sum(1) - source).max() < CLOSE:
                break
        if temperature == 1:
            return rounded(plan, source, target)
        temperature = max(1.0, temperature / 2)


def rounded(plan: Array, source: Array, target: Array) -> Array:
    """The plan with its sums made exact: rows and columns that hold too much are scaled down, and what is then missing
    is spread in proportion (Altschuler, Weed and Rigollet, arXiv:1705.09634)."""
    plan = plan * (source / np.maximum(source, plan.sum(1)))[:, None]
    plan = plan * (target / np.maximum(target, plan.sum(0)))
    rows, columns = np.maximum(0, source - plan.sum(1)), np.maximum(0, target - plan.sum(0))
    missing = rows.sum()
    return plan + np.outer(rows, columns) / missing if missing > 0 else plan
