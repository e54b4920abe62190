"""The laws of every kind, in the order in which they are shown."""

from __future__ import annotations

import isokl_registry.conformance.behavior as behavior
import isokl_registry.conformance.component as component
import isokl_registry.conformance.edit as edit
import isokl_registry.conformance.fit as fit
import isokl_registry.conformance.metric as metric
import isokl_registry.conformance.model as model
import isokl_registry.conformance.prompt as prompt
import isokl_registry.conformance.stat as stat
from isokl_registry.conformance.law import Check, Law

CHECKS: dict[str, tuple[Check, ...]] = {
    "method": (
        component.label,
        edit.identity,
        edit.per_row,
        edit.per_token,
        edit.dose_range,
        edit.effect,
        edit.monotone,
        edit.finite,
        edit.dtype,
        edit.device,
        edit.linear,
        fit.deterministic,
        fit.data,
        fit.pure,
        fit.clean,
        fit.degenerate,
        prompt.system,
    ),
    "model": (model.described, model.identity, model.stable, model.light, model.loads),
    "stat": (
        component.label,
        stat.target,
        stat.sets,
        stat.ended,
        stat.monotone,
        stat.grows,
        stat.unfinished,
        stat.no_shift,
        stat.needs_base,
        stat.interval,
        stat.pure,
    ),
    "metric": (
        component.label,
        metric.shapes,
        metric.unscored,
        metric.shares,
        metric.declared,
        metric.tokens,
        metric.deterministic,
        metric.small,
        metric.pure,
    ),
    "behavior": (
        behavior.described,
        behavior.prompts,
        behavior.personas,
        behavior.answer,
        behavior.stable,
    ),
}
COSTLY = (model.loads,)
LAWS = {kind: tuple(Law(kind, check, check in COSTLY) for check in checks) for kind, checks in CHECKS.items()}
