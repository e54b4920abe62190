"""What a steering method is: something that fits tensors to a contrast, and a pure edit that applies them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_registry.component import Component

if TYPE_CHECKING:
    from torch import Tensor, nn

State = Mapping[str, "Tensor"]


@dataclass(frozen=True, order=True)
class Site:
    """Where an edit sits: the output of block `layer` (0 is the first), or of one Linear inside it."""

    layer: int
    linear: str = ""

    def __str__(self) -> str:
        return f"{self.layer}.{self.linear}" if self.linear else str(self.layer)

    @classmethod
    def parse(cls, text: str) -> Site:
        layer, _, linear = text.partition(".")
        return cls(int(layer), linear)


@dataclass(frozen=True)
class Contrast:
    """Activations of contrast pairs at one site: row i of both is one message under opposite personas.

    positive, negative: [n, d] float32 on the CPU, at the last token. module: the block or Linear at the site.
    """

    positive: Tensor
    negative: Tensor
    site: Site
    module: nn.Module
    seed: int

    @property
    def difference(self) -> Tensor:
        """positive − negative, [n, d]."""
        return self.positive - self.negative


class Method(Component, ABC):
    """A way of steering. Subclass it as a frozen dataclass whose fields are the parameters:

        @dataclass(frozen=True)
        class MyMethod(Method):
            '''One line, formula, source.'''
            name: ClassVar[str] = "my_method"
            def fit(self, contrast): return {"v": ...}
            def edit(self, output, dose, input, state): return output + dose * state["v"]

    `linears` names the Linears inside a block to edit (as in `named_modules`); empty means the block's
    output. An entry may list names that architectures use for the same thing, "self_attn.o_proj|attn.c_proj":
    the first that a block has. `dose_range` is the range of |dose| in which the edit makes sense.
    `linear` promises that the state is one vector, `v` [d], and the edit `output + dose * state["v"]`: only
    then may steerings be added and scaled, as `a + 0.5 * b`.
    `same_as` names the method whose steering this one always is, by another way: where both were run,
    rankings have one row for the two.
    `control` says that it steers nowhere in particular: an effect counts only beside what a control has at the
    same budget.
    """

    kind: ClassVar[str] = "method"
    operation: ClassVar[str] = "add"
    linears: ClassVar[tuple[str, ...]] = ()
    dose_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    linear: ClassVar[bool] = False
    same_as: ClassVar[str] = ""
    control: ClassVar[bool] = False

    @abstractmethod
    def fit(self, contrast: Contrast) -> State:
        """Fit the steering at one site.

        Args:
            contrast: activations there, see Contrast.

        Returns:
            Its tensors by name, float32 on the CPU.

        Raises:
            ValueError: when the contrast allows no fit; its message ends up in front of the user.
        """

    @abstractmethod
    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        """The steered output, a pure function that is `output` where dose is 0, row by row.

        The engine casts to float32 before and to the model's dtype after.

        Args:
            output: [b, s, d] float32, what the site gave.
            dose: [b, 1, 1].
            input: [b, s, d_in] float32, what the site was fed.
            state: what `fit` returned, on the device of the output.

        Returns:
            [b, s, d] float32.
        """
