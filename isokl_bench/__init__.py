"""isokl-bench: steering methods compared at one KL budget.

`run(model, method, …)` does one run and returns its Record, whose Steering can be saved, loaded and added to others;
`gap(run)` says where the gap between its calibration and evaluation comes from. The command line `isokl` is a thin layer
over them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isokl_bench.api import run
    from isokl_bench.engine.steering import Steering
    from isokl_bench.generalization.gap import gap
    from isokl_bench.pipeline.config import RunConfig
    from isokl_bench.pipeline.record import Record

__all__ = ["Record", "RunConfig", "Steering", "gap", "run"]
_HOMES = {
    "run": "api",
    "gap": "generalization.gap",
    "RunConfig": "pipeline.config",
    "Record": "pipeline.record",
    "Steering": "engine.steering",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that `isokl --help` pays for nothing it does not need."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"isokl_bench.{_HOMES[name]}"), name)
