"""Saying where numbers broke: the first block whose output is not finite, and at which dose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from isokl_bench.engine.hooks import attached
from isokl_bench.engine.lm import LanguageModel
from isokl_bench.engine.steering import Steering


@torch.inference_mode()
def explain_nonfinite(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], steering: Steering, dose: float
) -> str:
    """One line on a rollout whose logits were NaN or infinite.

    Args:
        lm: the model.
        prompts: token ids of the rollout's prompts.
        steering: what was applied.
        dose: at which dose.
    """
    broken: list[int] = []

    def watch(layer: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            if not hidden[real].isfinite().all():
                broken.append(layer)

        return hook

    ids, mask = lm.pad_rows(prompts)
    real = mask.bool()
    handles = []
    with attached(lm, steering) as edits:  # the edits' hooks come first, so these see the steered output
        handles = [block.register_forward_hook(watch(layer)) for layer, block in enumerate(lm.blocks)]
        try:
            edits.arrange(torch.full((len(prompts),), dose, device=lm.device))
            lm.forward(ids, mask)
        finally:
            for handle in handles:
                handle.remove()
    where = f"after block {broken[0]}" if broken else "in the logits"
    return (
        f"{steering.method.label()} gives NaN or infinity {where} at dose {dose:g}: "
        "check the method's edit, or use --dtype float32 or bfloat16"
    )
