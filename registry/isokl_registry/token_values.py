"""What a stat is made of: numbers of every token that a rollout wrote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from numpy import float64, int64
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[float64]"


@dataclass(frozen=True)
class TokenValues:
    """Per-token numbers of one rollout, each [prompt, token]; NaN where a row has ended. Sets of prompts come
    with a dimension more in front, [set, prompt, token].

    kl: KL(steered ‖ base) in nats. nll: −log p_base of the token that the steered model wrote, in nats.
    """

    kl: Array
    nll: Array

    def of(self, prompts: NDArray[int64]) -> TokenValues:
        """The values of some prompts, by index: [n], or [set, n] for sets of them."""
        return TokenValues(self.kl[prompts], self.nll[prompts])
