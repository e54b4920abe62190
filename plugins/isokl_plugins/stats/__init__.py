"""The built-in calibration stats."""

from __future__ import annotations

from collections.abc import Callable

from isokl_plugins.stats.kl_max import KlMax
from isokl_plugins.stats.kl_mean import KlMean
from isokl_plugins.stats.kl_p95 import KlP95
from isokl_plugins.stats.nll import Nll
from isokl_registry import Stat, hookimpl


@hookimpl
def register_stats(register: Callable[[type[Stat]], None]) -> None:
    for stat in (KlP95, Nll, KlMean, KlMax):
        register(stat)
