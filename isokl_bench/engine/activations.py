"""Outputs of blocks and Linears at the last token, by hooks (`hidden_states[-1]` is after the final norm)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from isokl_bench.engine.batching import PIECE, in_batches
from isokl_bench.engine.lm import LanguageModel
from isokl_registry import IsoklError, Site


class _Enough(Exception):
    """Every site has been seen: what the model would do after that is of no use."""


@torch.inference_mode()
def record(lm: LanguageModel, rows: Sequence[Sequence[int]], sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Outputs of the unsteered model at the last token of every row.

    Args:
        lm: the model.
        rows: token ids of n texts.
        sites: blocks, or Linears inside them.

    Returns:
        For every site [n, d] float32 on the CPU, d being the width of its output.

    Raises:
        IsoklError: when an activation is not finite, naming the site.
    """
    found: dict[Site, list[Tensor]] = {site: [] for site in sites}
    seen: dict[Site, Tensor] = {}

    def keep(site: Site) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            seen[site] = hidden[:, -1].float().cpu()
            if len(seen) == len(found):
                raise _Enough

        return hook

    def read(some: Sequence[Sequence[int]]) -> None:
        seen.clear()
        with suppress(_Enough):
            lm.forward(*lm.pad_rows(some))
        for site, parts in found.items():
            parts.append(seen[site])

    handles = [lm.module(site).register_forward_hook(keep(site)) for site in sites]
    try:
        longest = max(map(len, rows))
        in_batches(lm, rows, min(lm.max_rows(longest, read=longest), PIECE // longest), read)
    finally:
        for handle in handles:
            handle.remove()
    result = {site: torch.cat(parts) for site, parts in found.items()}
    for site, tensor in result.items():
        if not tensor.isfinite().all():
            raise IsoklError(
                f"activations at block {site} are not finite on the unsteered model: "
                "use --dtype float32 or bfloat16"
            )
    return result
