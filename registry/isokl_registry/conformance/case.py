"""A small made-up site for a method: a module, a contrast recorded at it, and outputs to steer."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from isokl_registry.conformance.law import skip
from isokl_registry.method import Contrast, Method, Site, State
from isokl_registry.prompt_method import PromptMethod

if TYPE_CHECKING:
    from torch import Tensor, nn

WIDTH, INNER, PAIRS = 32, 48, 12
ROWS, TOKENS = 5, 3
LINEARS = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (WIDTH, 16),
    "self_attn.v_proj": (WIDTH, 16),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (WIDTH, INNER),
    "mlp.up_proj": (WIDTH, INNER),
    "mlp.down_proj": (INNER, WIDTH),
}


@dataclass(frozen=True)
class Case:
    """One site of a method. output: [rows, tokens, d], input: [rows, tokens, d_in], as in the engine."""

    method: Method
    contrast: Contrast
    output: Tensor
    input: Tensor

    @cached_property
    def state(self) -> State:
        """What the method fits to the contrast."""
        return self.method.fit(self.contrast)

    @property
    def scale(self) -> float:
        """The largest sensible dose where there is one, else 1."""
        high = self.method.dose_range[1]
        return high if math.isfinite(high) else 1.0

    @property
    def dose(self) -> float:
        """A dose well inside the range."""
        return 0.6 * self.scale

    def steer(self, dose: float | list[float], *, state: State | None = None) -> Tensor:
        """The outputs at one dose, or at one for each row, without gradients."""
        import torch

        doses = torch.tensor(dose if isinstance(dose, list) else [dose] * len(self.output)).view(-1, 1, 1)
        with torch.inference_mode():
            # An edit that writes into what it is given is another law's affair.
            output, given = self.output.clone(), self.input.clone()
            return self.method.edit(output, doses, given, self.state if state is None else state)

    def rows(self, index: slice) -> Case:
        """The same case with some of its rows."""
        return self.given(self.output[index], self.input[index])

    def tokens(self, index: slice) -> Case:
        """The same case with some of its tokens."""
        return self.given(self.output[:, index], self.input[:, index])

    def hard(self) -> Case:
        """The same case with tokens that are hard on an edit: zero, on the contrast's line, tiny, huge."""
        import torch

        mean = self.contrast.difference.mean(0)
        rows = [0 * mean, mean, -mean, self.contrast.positive[0], self.contrast.negative[0]]
        rows += [1e-6 * self.output[0, 0], 1e4 * self.output[0, 0]]
        output = torch.stack(rows).expand(2, -1, -1).clone()
        return self.given(output, self.input[:1, :1].expand(*output.shape[:2], -1).clone())

    def rounded(self) -> Case:
        """The same case as a bfloat16 model has it: the engine casts to float32 before the edit, and back."""
        return self.given(self.output.bfloat16().float(), self.input.bfloat16().float())

    def given(self, output: Tensor, input: Tensor) -> Case:
        """The same fit with other outputs and inputs."""
        case = replace(self, output=output, input=input)
        case.__dict__["state"] = self.state  # fitted once
        return case

    def __str__(self) -> str:
        return f"at {self.contrast.site.linear or 'the block'}"


def cases(method: Method | PromptMethod) -> list[Case]:
    """One case for each Linear that the method edits, or one for the block's output."""
    if isinstance(method, PromptMethod):
        skip("a prompt fits nothing and has no dose")
    return [_case(method, entry.split("|")[0]) for entry in method.linears or ("",)]


def _case(method: Method, linear: str) -> Case:
    import torch

    generator = torch.Generator().manual_seed(0)
    block = _block(linear)
    module = block.get_submodule(linear)
    width = int(getattr(module, "in_features", WIDTH))

    def fed(*shape: int, shift: float = 0.0) -> Tensor:
        made = torch.randn(*shape, width, generator=generator)
        made[..., 0] += shift
        return made

    with torch.inference_mode():  # as the engine records them
        contrast = Contrast(
            module(fed(PAIRS, shift=2.0)), module(fed(PAIRS, shift=-2.0)), Site(1, linear), module, seed=0
        )
        given = fed(ROWS, TOKENS)
        return Case(method, contrast, module(given), given)


def _block(linear: str) -> nn.Module:
    """A block with the Linears of Llama, and `linear` where that is another one."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def forward(self, hidden_states: Tensor) -> Tensor:
            attended = hidden_states + self.get_submodule("self_attn.o_proj")(hidden_states)
            inner = self.get_submodule("mlp.up_proj")(attended)
            written: Tensor = attended + self.get_submodule("mlp.down_proj")(inner.relu())
            return written

    block = Block()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, (inputs, outputs) in {linear or "mlp.up_proj": (WIDTH, WIDTH), **LINEARS}.items():
            *path, last = name.split(".")
            parent: nn.Module = block
            for part in path:
                if not hasattr(parent, part):
                    parent.add_module(part, nn.Module())
                parent = parent.get_submodule(part)
            parent.add_module(last, nn.Linear(inputs, outputs))
    return block.eval()
