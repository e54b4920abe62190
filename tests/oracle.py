"""The protocol written the slow, obvious way: one prompt, one dose, `model.generate`, rescoring of the whole
text under both models, plain bisection. It shares no code with the engine except the edit of the method under
test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch


@contextmanager
def steered(model, blocks, steering, dose) -> Iterator[None]:
    """A hand-written hook per site: float32 edit of the whole output, cast back."""
    handles = []

    def make(state):
        def hook(module, args, kwargs, output):
            hidden = output[0] if isinstance(output, tuple) else output
            given = args[0] if args else kwargs["hidden_states"]
            scale = torch.full((hidden.shape[0], 1, 1), dose)
            new = steering.method.edit(hidden.float(), scale, given.float(), state).to(hidden.dtype)
            return (new, *output[1:]) if isinstance(output, tuple) else new

        return hook

    for site, state in steering.state.items():
        module = blocks[site.layer]
        module = module.get_submodule(site.linear) if site.linear else module
        handles.append(module.register_forward_hook(make(state), with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.inference_mode()
def trajectory(
    model, blocks, steering, dose: float, prompt: Sequence[int], window: int, eos
) -> dict[str, torch.Tensor]:
    """Greedy text of the steered model, and its per-token numbers by teacher forcing: tokens, kl, nll, entropy."""
    ids = torch.tensor([list(prompt)])
    with steered(model, blocks, steering, dose):
        full = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=window,
            do_sample=False,
            num_beams=1,
            eos_token_id=list(eos) or None,
            pad_token_id=0,
        )
        log_s = model(input_ids=full, use_cache=False).logits[0].float().log_softmax(-1)
    log_b = model(input_ids=full, use_cache=False).logits[0].float().log_softmax(-1)
    at = slice(len(prompt) - 1, full.shape[1] - 1)
    tokens = full[0, len(prompt) :]
    log_s, log_b = log_s[at], log_b[at]
    return {
        "tokens": tokens,
        "kl": (log_s.exp() * (log_s - log_b)).sum(-1),
        "nll": -log_b[torch.arange(len(tokens)), tokens],
        "entropy": -(log_s.exp() * log_s).sum(-1),
    }


def kl_p95(model, blocks, steering, dose, prompts, window, eos) -> float:
    """95th percentile of the pooled per-token KL."""
    pool = [trajectory(model, blocks, steering, dose, p, window, eos)["kl"] for p in prompts]
    return float(torch.quantile(torch.cat(pool).double(), 0.95))


def bisect(
    stat, target: float, tolerance: float, low: float, high: float, rounds: int = 14
) -> tuple[float, float, float]:
    """Plain bisection of stat(dose) on a log scale: (dose, low, high) within the tolerance, or at the end."""
    for _ in range(rounds):
        middle = (low * high) ** 0.5
        value = stat(middle)
        if abs(value - target) <= tolerance:
            break
        low, high = (middle, high) if value < target else (low, middle)
    return middle, low, high


@torch.inference_mode()
def answer_log_probs(
    model, blocks, steering, dose, ids: Sequence[int], words: Sequence[Sequence[int]]
) -> list[float]:
    """log of the summed next-token probability of each list of tokens after `ids`."""
    with steered(model, blocks, steering, dose):
        log_p = (
            model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0, -1].float().log_softmax(-1)
        )
    return [float(log_p[list(w)].logsumexp(-1)) for w in words]
