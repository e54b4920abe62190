"""The built-in steering methods."""

from __future__ import annotations

from collections.abc import Callable

from isokl_plugins.methods.angular import Angular
from isokl_plugins.methods.chars import Chars
from isokl_plugins.methods.cosine_gated import CosineGated
from isokl_plugins.methods.directional_ablation import DirectionalAblation
from isokl_plugins.methods.engineered_prompt import EngineeredPrompt
from isokl_plugins.methods.linear_act import LinearAct
from isokl_plugins.methods.mean_diff import MeanDiff
from isokl_plugins.methods.pca import Pca
from isokl_plugins.methods.pca_center import PcaCenter
from isokl_plugins.methods.probe import Probe
from isokl_plugins.methods.prompt import PersonaPrompt
from isokl_plugins.methods.random import Random
from isokl_plugins.methods.spherical import Spherical
from isokl_plugins.methods.sspace import SSpace
from isokl_plugins.methods.sspace_ablate import SSpaceAblate
from isokl_plugins.methods.super_sspace import SuperSSpace
from isokl_plugins.methods.topk_clusters import TopkClusters
from isokl_registry import Method, PromptMethod, hookimpl


@hookimpl
def register_methods(register: Callable[[type[Method | PromptMethod]], None]) -> None:
    for method in (
        MeanDiff,
        Pca,
        PcaCenter,
        Probe,
        Random,
        TopkClusters,
        CosineGated,
        DirectionalAblation,
        Spherical,
        Angular,
        LinearAct,
        Chars,
        SSpace,
        SSpaceAblate,
        SuperSSpace,
        PersonaPrompt,
        EngineeredPrompt,
    ):
        register(method)
