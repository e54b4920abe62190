"""The built-in steering methods."""

from __future__ import annotations

from collections.abc import Callable

from isokl_plugins.methods.directional_ablation import DirectionalAblation
from isokl_plugins.methods.mean_diff import MeanDiff
from isokl_plugins.methods.pca import Pca
from isokl_registry import Method, hookimpl


@hookimpl
def register_methods(register: Callable[[type[Method]], None]) -> None:
    for method in (MeanDiff, Pca, DirectionalAblation):
        register(method)
