"""Laws of a stat: what calibration and its intervals rely on."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from isokl_registry.conformance.law import require, skip
from isokl_registry.stat import Stat
from isokl_registry.token_values import TokenValues

if TYPE_CHECKING:
    from isokl_registry.token_values import Array

PROMPTS, TOKENS, SETS = 6, 20, 7
EPSILON = 1e-9


def target(stat: Stat) -> None:
    """Its target is a positive number, and its unit has a name."""
    require(0 < stat.target < math.inf, f"the target {stat.target} is not a positive number")
    require(stat.unit.strip(), "the unit is empty")


def sets(stat: Stat) -> None:
    """Sets of prompts with a dimension in front give the number that each has alone."""
    import numpy as np

    steered, base = _values()
    alone = np.asarray(stat(steered, base))
    require(alone.shape == (), f"one rollout gives the shape {alone.shape}, not one number")
    chosen = np.random.default_rng(1).integers(0, PROMPTS, size=(SETS, PROMPTS))
    together = np.asarray(stat(steered.of(chosen), base.of(chosen)))
    require(together.shape == (SETS,), f"{SETS} sets give the shape {together.shape}, not ({SETS},)")
    for i, rows in enumerate(chosen):
        one = float(stat(steered.of(rows), base.of(rows)))
        require(
            abs(together[i] - one) <= EPSILON,
            f"set {i} is {together[i]:.6g} among others and {one:.6g} alone",
        )


def ended(stat: Stat) -> None:
    """NaN is a row that has ended: it gives no NaN, and longer windows of ended rows change nothing."""
    import numpy as np

    steered, base = _values()
    found = float(stat(steered, base))
    require(math.isfinite(found), f"a rollout with an ended row gives {found}")
    pad = _map(lambda x: np.concatenate([x, np.full((PROMPTS, 4), np.nan)], axis=1))
    longer = float(stat(pad(steered), pad(base)))
    require(
        abs(longer - found) <= EPSILON, f"4 more tokens after every end change {found:.6g} to {longer:.6g}"
    )


def monotone(stat: Stat) -> None:
    """It does not fall when any kl or nll rises."""
    steered, base = _values()
    found = float(stat(steered, base))
    for i in range(PROMPTS):
        for t in range(TOKENS):
            for name in ("kl", "nll"):
                values = {"kl": steered.kl.copy(), "nll": steered.nll.copy()}
                values[name][i, t] += 5.0
                raised = float(stat(TokenValues(**values), base))
                require(
                    raised >= found - EPSILON,
                    f"{name} of prompt {i}, token {t}, raised by 5 nat lowers it "
                    f"from {found:.6g} to {raised:.6g}",
                )


def grows(stat: Stat) -> None:
    """It rises when every kl and nll rises."""
    steered, base = _values()
    low, high = float(stat(steered, base)), float(stat(_map(lambda x: x + 1.0)(steered), base))
    require(high > low, f"1 nat more at every token leaves it at {low:.6g}")


def unfinished(stat: Stat) -> None:
    """A rollout that goes on, with 0 for what is still to come, bounds it from below."""
    import numpy as np

    steered, base = _values()
    final = float(stat(steered, base))
    ended = np.isnan(steered.kl)
    length = TOKENS - ended.sum(1, keepdims=True)
    for done in range(1, TOKENS):
        known, over = np.arange(TOKENS) < done, ended & (length <= done)  # an end that has been seen
        values = (np.where(over, np.nan, np.where(known, x, 0.0)) for x in (steered.kl, steered.nll))
        found = float(stat(TokenValues(*values), base))
        require(
            found <= final + EPSILON, f"after {done} tokens it is {found:.6g}, and {final:.6g} in the end"
        )


def no_shift(stat: Stat) -> None:
    """Without a shift it is under its target, and 0 where it is made of KL alone."""
    import numpy as np

    steered, base = _values()
    still = TokenValues(np.zeros_like(base.kl), base.nll)
    found = float(stat(still, base))
    require(found < stat.target, f"the unsteered model has {found:.6g}, not under the target {stat.target:g}")
    only_kl = float(stat(TokenValues(steered.kl, steered.nll + 1.0), base)) == float(stat(steered, base))
    require(not only_kl or found == 0, f"the unsteered model, whose KL is 0, has {found:.6g}")
    require(only_kl or not stat.is_shift, "it says is_shift, and changes with nll")


def needs_base(stat: Stat) -> None:
    """Where needs_base is false, the base rollout is not read."""
    import numpy as np

    if stat.needs_base:
        skip("the stat asks for the base rollout")
    steered, base = _values()
    absent = _map(lambda x: np.full_like(x, np.nan))(base)
    with_base, without = float(stat(steered, base)), float(stat(steered, absent))
    require(with_base == without, f"without a base rollout it is {without:.6g}, with one {with_base:.6g}")


def interval(stat: Stat) -> None:
    """Its interval holds it; an end that is open is infinite and no NaN, as both are of a single prompt."""
    import numpy as np

    values = _values()
    found, (low, high) = float(stat(*values)), stat.interval(*values)
    require(low <= found <= high, f"the interval [{low:.6g}, {high:.6g}] does not hold it, {found:.6g}")
    ends = stat.interval(*(one.of(np.array([0])) for one in values))
    require(ends == (-math.inf, math.inf), f"one prompt has the interval {ends}: it tells neither end")


def pure(stat: Stat) -> None:
    """It writes into nothing that it is given: the arrays are everybody's."""
    steered, base = _values()
    stat(steered, base)
    for found, made in zip((steered, base), _values(), strict=True):
        for name in ("kl", "nll"):
            same = getattr(found, name).tobytes() == getattr(made, name).tobytes()
            require(same, f"it writes into {name}")


def _values() -> tuple[TokenValues, TokenValues]:
    """A steered rollout of which one row ended early, and its base rollout."""
    import numpy as np

    rng = np.random.default_rng(0)
    kl, nll, own = (rng.exponential(size=(PROMPTS, TOKENS)) for _ in range(3))
    kl[2, 7:] = nll[2, 7:] = own[3, 12:] = np.nan
    return TokenValues(kl, nll), TokenValues(np.where(np.isnan(own), np.nan, 0.0), own)


def _map(change: Callable[[Array], Array]) -> Callable[[TokenValues], TokenValues]:
    return lambda values: TokenValues(change(values.kl), change(values.nll))
