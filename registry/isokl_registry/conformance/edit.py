"""Laws of a method's edit: what the engine relies on when it steers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isokl_registry.conformance.case import ROWS, TOKENS, cases
from isokl_registry.conformance.law import Broken, require, skip
from isokl_registry.method import Method

if TYPE_CHECKING:
    from torch import Tensor

DECADES = [10.0**power for power in range(-6, 7)]
SHARES = (0.0, 0.1, -0.3, 0.6, 1.0)  # of the largest sensible dose, one for each row
NEAR_0 = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
TOLERANCE = 1e-4  # of a row's largest number: sums of float32 in another order


def identity(method: Method) -> None:
    """Dose 0 gives the output back, bit for bit, whatever the token."""
    import torch

    for case in (case for plain in cases(method) for case in (plain, plain.rounded(), plain.hard())):
        for zero in (0.0, -0.0):
            steered = case.steer(zero)
            changed = (steered - case.output).abs().max().item()
            require(
                torch.equal(steered, case.output),
                f"{case}, dose {zero:g} changes the output by {changed:.3g}: "
                "write the edit as output + dose * (…)",
            )


def per_row(method: Method) -> None:
    """The dose is per row: a batch at different doses equals its rows one by one."""
    for case in cases(method):
        doses = [share * case.scale for share in SHARES]
        together = case.steer(doses)
        for i, dose in enumerate(doses):
            alone = case.rows(slice(i, i + 1)).steer([dose])
            _same(
                together[i : i + 1],
                alone,
                f"{case}, row {i} at dose {dose:g} comes out differently in the batch than alone",
            )


def per_token(method: Method) -> None:
    """Each token is edited by itself: a whole text in one pass equals its tokens one by one."""
    for case in cases(method):
        dose = case.dose
        together = case.steer(dose)
        for i in range(TOKENS):
            alone = case.tokens(slice(i, i + 1)).steer(dose)
            _same(
                together[:, i : i + 1],
                alone,
                f"{case}, token {i} comes out differently in the text than alone, "
                "as it is when a cache holds the others",
            )


def dose_range(method: Method) -> None:
    """dose_range is the least and the largest size of a dose: 0 or more, and ascending."""
    cases(method)
    low, high = method.dose_range
    require(0 <= low < high, f"dose_range is ({low:g}, {high:g}): give (least, largest), as (0.0, math.inf)")


def effect(method: Method) -> None:
    """A dose changes the output, in both directions, and not in the same way."""
    import torch

    for case in cases(method):
        steered = {dose: case.steer(dose) for dose in (case.dose, -case.dose)}
        for dose, output in steered.items():
            require(not torch.equal(output, case.output), f"{case}, dose {dose:g} changes nothing")
        require(not torch.equal(*steered.values()), f"{case}, the sign of the dose makes no difference")


def finite(method: Method) -> None:
    """The output is finite at every dose from ±1e-6 to ±1e6, in and out of dose_range, whatever the token."""
    for case in (case for plain in cases(method) for case in (plain, plain.hard())):
        for dose in [sign * size for size in DECADES for sign in (1, -1)]:
            require(case.steer(dose).isfinite().all(), f"{case}, dose {dose:g} gives NaN or infinity")


def monotone(method: Method) -> None:
    """Near 0 a larger dose is no smaller shift: the KL of a small readout does not fall."""
    for case in cases(method):
        for sign in (1, -1):
            doses = [sign * dose * case.scale for dose in NEAR_0]
            found = [_readout_kl(case.steer(dose), case.output) for dose in doses]
            for i in range(1, len(doses)):
                require(
                    found[i] >= found[i - 1] * (1 - 1e-3),
                    f"{case}, the KL is {found[i - 1]:.3g} at dose {doses[i - 1]:g} "
                    f"and {found[i]:.3g} at {doses[i]:g}",
                )


def dtype(method: Method) -> None:
    """The edit of a float32 output is a float32 output of its shape, also where it was cast from bfloat16."""
    import torch

    for case in (case for plain in cases(method) for case in (plain, plain.rounded())):
        steered = case.steer(case.dose)
        found = f"{str(steered.dtype).removeprefix('torch.')} {list(steered.shape)}"
        require(
            (steered.dtype, steered.shape) == (torch.float32, case.output.shape),
            f"{case}, the edit of float32 {list(case.output.shape)} gives {found}",
        )
        require(steered.bfloat16().isfinite().all(), f"{case}, the edit is not finite in bfloat16")


def device(method: Method) -> None:
    """The edit computes where its output is: from the state and what it is given, and nothing else."""
    import torch

    from isokl_registry.conformance.tracking import Tracker

    for case in cases(method):
        dose = torch.full((ROWS, 1, 1), case.dose)
        output, given = case.output.clone(), case.input.clone()
        with torch.inference_mode(), Tracker([output, dose, given, *case.state.values()]) as tracker:
            here = method.edit(output, dose, given, case.state)
        require(
            not tracker.strangers,
            f"{case}, the edit uses a tensor of shape {tracker.strangers[:1]} that is not in its state: "
            "the engine moves only the state to the model's device",
        )
        made = f"{case}, the edit makes a tensor without device=output.device"
        try:
            with torch.inference_mode(), torch.device("meta"):  # what is made without a device lands there
                there = method.edit(output, dose, given, case.state)
        except (RuntimeError, NotImplementedError) as error:  # and mixes with nothing
            raise Broken(made) from error
        require(there.device == here.device, made)
        if torch.cuda.is_available():
            with torch.inference_mode():
                moved = {key: value.cuda() for key, value in case.state.items()}
                there = method.edit(output.cuda(), dose.cuda(), given.cuda(), moved)
            require(there.is_cuda, f"{case}, the edit of an output on a GPU is not on that GPU")
            _same(there.cpu(), here, f"{case}, the edit comes out differently on a GPU")


def linear(method: Method) -> None:
    """Where `linear` is promised, the state is one vector v and the edit is output + dose * v."""
    import torch

    every = cases(method)
    if not method.linear:
        skip("the method does not promise it")
    for case in every:
        shapes = {key: list(value.shape) for key, value in case.state.items()}
        width = case.output.shape[-1]
        require(shapes == {"v": [width]}, f"{case}, the state is {shapes}, not {{'v': [{width}]}}")
        doses = [share * case.scale for share in SHARES]
        added = case.output + torch.tensor(doses).view(-1, 1, 1) * case.state["v"]
        _same(case.steer(doses), added, f"{case}, the edit is not output + dose * v")


def _same(found: Tensor, wanted: Tensor, what: str) -> None:
    error = (found - wanted).abs().max().item()
    require(error <= TOLERANCE * max(1.0, wanted.abs().max().item()), f"{what} (by {error:.3g})")


def _readout_kl(steered: Tensor, base: Tensor) -> float:
    """Mean KL(steered ‖ base) of softmax(W y) over all tokens, in float64: a head without a model."""
    import torch

    width = base.shape[-1]
    head: Any = torch.randn(width, 64, generator=torch.Generator().manual_seed(2)).double() / width**0.5
    p, q = ((output.double() @ head).log_softmax(-1) for output in (steered, base))
    return float((p.exp() * (p - q)).sum(-1).mean())
