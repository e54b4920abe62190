"""What all tests share: built-in plugins only, and the shipped models loaded once."""

from __future__ import annotations

import os
from pathlib import Path

os.environ["ISOKL_LOAD_PLUGINS"] = ""
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = (
    "1"  # the models are too small to share among threads, and two tests may run at once
)
os.environ.setdefault("ISOKL_CACHE", str(Path(__file__).parents[1] / ".pytest_cache" / "isokl"))

import pytest

from tests.small import SMALL


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
