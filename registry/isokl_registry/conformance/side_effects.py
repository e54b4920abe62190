"""What a plugin may leave behind in the process and on a module, as values that can be compared."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks_of_every_module

Facts = dict[str, Any]


def surroundings(module: nn.Module) -> Facts:
    """Everything about the module and the process that nobody else may change, by what a message calls it."""
    return {**_process(), **_module(module)}


def difference(before: Facts, after: Facts) -> str:
    """The name of the first fact that has changed, or nothing."""
    for name in (*before, *after):
        if name not in before or name not in after or not _equal(before[name], after[name]):
            return name
    return ""


@contextmanager
def reseeded(seed: int) -> Iterator[None]:
    """Every global generator seeded, and put back afterwards."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])


def _process() -> Facts:
    facts: Facts = {
        "torch's random state": torch.get_rng_state(),
        "numpy's random state": pickle.dumps(np.random.get_state()),
        "Python's random state": random.getstate(),
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
    }
    hooks = {
        name: list(value)
        for name, value in vars(hooks_of_every_module).items()
        if name.endswith("_hooks") and name.startswith("_global") and isinstance(value, dict)
    }
    return facts | {f"torch's {name.strip('_')}": keys for name, keys in hooks.items()}


def _module(module: nn.Module) -> Facts:
    facts: Facts = {}
    for name, part in module.named_modules():
        where = f"{name or type(module).__name__} of the module"
        facts[f"the class of {where}"] = type(part)
        facts[f"an attribute of {where}"] = sorted(vars(part))
        facts[f"the training mode of {where}"] = part.training
        for key, value in vars(part).items():
            if key.endswith("_hooks"):
                facts[f"{key.strip('_')} of {where}"] = list(value)
    for name, tensor in chain(module.named_parameters(), module.named_buffers()):
        facts[f"{name} of the module"] = tensor.detach().clone()
        facts[f"requires_grad of {name}"] = tensor.requires_grad
        facts[f"the gradient of {name}"] = tensor.grad is None
    return facts


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return bool(one == other)
