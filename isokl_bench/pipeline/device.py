"""Where a run computes."""

from __future__ import annotations

import torch

from isokl_registry import IsoklError


def pick_device(name: str) -> torch.device:
    """The device of that name; 'auto' is the first GPU where there is one, else the CPU.

    Raises:
        IsoklError: when it cannot be used.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise IsoklError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]}): try --device cpu"
        ) from error
    return device
