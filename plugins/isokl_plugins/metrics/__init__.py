"""The built-in metrics."""

from __future__ import annotations

from collections.abc import Callable

from isokl_plugins.metrics.base_nll import BaseNll
from isokl_plugins.metrics.branch_pmass import BranchPmass
from isokl_plugins.metrics.kl_trajectory import KlTrajectory
from isokl_plugins.metrics.target_logit import TargetLogit
from isokl_registry import Metric, hookimpl


@hookimpl
def register_metrics(register: Callable[[type[Metric]], None]) -> None:
    for metric in (TargetLogit, BaseNll, BranchPmass, KlTrajectory):
        register(metric)
