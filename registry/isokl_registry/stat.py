"""What a stat is: the number that calibration drives to a target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from isokl_registry.component import Component

if TYPE_CHECKING:
    from isokl_registry.token_values import Array, TokenValues


class Stat(Component, ABC):
    """A number of a greedy rollout that grows with the dose. `target` is its default budget. `is_shift` says that it is a
    level of KL(steered ‖ base) in nats: then figures draw the budget among the KL of single tokens.

    It must not fall when any kl or nll rises: then a rollout that is not finished, with 0 for what is still
    to come, bounds the stat from below, and the calibrator may drop a dose that is certainly too strong."""

    kind: ClassVar[str] = "stat"
    target: ClassVar[float]
    unit: ClassVar[str] = "nat"
    needs_base: ClassVar[bool] = True
    is_shift: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, steered: TokenValues, base: TokenValues) -> Array:
        """The stat of the steered rollout, over the last two dimensions.

        Args:
            steered: what the steered model wrote, [prompt, token] or, of sets of prompts, [set, prompt,
                token].
            base: the base model's own greedy rollout of the same prompts; all NaN where `needs_base` is
                False, which saves that rollout.

        Returns:
            One number, or one for each set, [set]; in `unit`.
        """

    def interval(self, steered: TokenValues, base: TokenValues) -> tuple[float, float]:
        """95 % interval of the stat over prompts. The interval of a coefficient is made of these: the doses
        at which they hold the target.

        `isokl_registry.interval` has one for stats that are made of means, and one for percentiles. Unless a
        stat says which is its own, it has the one that asks for nothing, and is open for fewer than 8
        prompts.

        Args:
            steered, base: as for the stat itself, [prompt, token].

        Returns:
            The ends, with the stat in between; an end that is open is infinite.
        """
        from isokl_registry.interval import resampled

        return resampled(self, steered, base)
