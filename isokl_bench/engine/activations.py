"""Outputs of blocks and Linears at the last token, by hooks (`hidden_states[-1]` would be after the final norm)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.packing import in_batches
from isokl_registry import IsoklError, Site


@torch.inference_mode()
def record(lm: LanguageModel, rows: Sequence[Sequence[int]], sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Output of every site at the last token of every row: [rows, d] float32 on the CPU.

    Raises IsoklError naming the layer when an activation is not finite."""
    found: dict[Site, list[Tensor]] = {site: [] for site in sites}

    def keep(site: Site) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            found[site].append(hidden[:, -1].float().cpu())

        return hook

    handles = [lm.module(site).register_forward_hook(keep(site)) for site in sites]
    try:
        longest = max(map(len, rows))
        in_batches(lm, rows, lm.max_rows(longest, read=longest), lambda some: lm.forward(*lm.pad_rows(some)))
    finally:
        for handle in handles:
            handle.remove()
    result = {site: torch.cat(parts) for site, parts in found.items()}
    for site, tensor in result.items():
        if not tensor.isfinite().all():
            raise IsoklError(
                f"activations at block {site} are not finite on the unsteered model: use --dtype float32 or bfloat16"
            )
    return result
