"""What all tests share: one environment, built-in plugins only, and the shipped models loaded once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.small import SMALL

os.environ["ISOKL_LOAD_PLUGINS"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = (
    "1"  # the models are too small to share among threads, and tests run side by side
)
os.environ.setdefault("ISOKL_CACHE", str(Path(__file__).parents[1] / ".pytest_cache" / "isokl"))

# What a terminal shows is tested on one and the same terminal, whatever the tests are started from.
os.environ["TERM"] = "xterm-256color"
for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES", "ISOKL_DB"):
    os.environ.pop(name, None)

# A busy machine is no fault: nothing fails for being slow, but for `timeout` in pyproject.toml.
settings.register_profile("isokl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("isokl")


@pytest.fixture(scope="session")
def registry():
    from isokl_registry import load_registry

    return load_registry()


@pytest.fixture(scope="session")
def tiny(registry):
    """tiny-qwen as the engine sees it."""
    import torch

    from isokl_bench.engine.lm import LanguageModel

    return LanguageModel(registry.model("tiny-qwen").load(device=torch.device("cpu"), dtype=torch.float32))


@pytest.fixture
def small():
    """Options that make a run small."""
    return dict(SMALL)
