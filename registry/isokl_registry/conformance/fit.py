"""Laws of a method's fit, and of what fit and edit leave behind."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from isokl_registry.conformance.case import Case, cases
from isokl_registry.conformance.law import require
from isokl_registry.method import Contrast, Method, State

if TYPE_CHECKING:
    from torch import Tensor


def deterministic(method: Method) -> None:
    """fit gives the same tensors again, bit for bit, whatever the global random state."""
    import torch

    from isokl_registry.conformance.side_effects import reseeded

    for case in cases(method):
        found = []
        for seed in (1, 2):
            with reseeded(seed):
                found.append(method.fit(case.contrast))
        require(
            found[0].keys() == found[1].keys()
            and all(torch.equal(found[0][key], found[1][key]) for key in found[0]),
            f"{case}, a second fit gives other tensors: draw from a generator seeded with contrast.seed",
        )


def data(method: Method) -> None:
    """The state is data: named, finite float32 tensors on the CPU, that safetensors gives back equal."""
    import safetensors.torch
    import torch

    for case in cases(method):
        require(case.state, f"{case}, the state is empty")
        for key, value in case.state.items():
            require(
                isinstance(key, str) and key, f"{case}, the state has the key {key!r}, which is not a name"
            )
            require(
                isinstance(value, torch.Tensor),
                f"{case}, state[{key!r}] is {type(value).__name__}, not a tensor",
            )
            found = f"{str(value.dtype).removeprefix('torch.')} on {value.device}"
            require(
                (value.dtype, value.device.type) == (torch.float32, "cpu"),
                f"{case}, state[{key!r}] is {found}, not float32 on cpu",
            )
            require(not value.requires_grad, f"{case}, state[{key!r}] requires grad: detach it")
            require(value.isfinite().all(), f"{case}, state[{key!r}] has NaN or infinity")
        stored = safetensors.torch.save({key: value.contiguous() for key, value in case.state.items()})
        back = safetensors.torch.load(stored)
        same = back.keys() == case.state.keys() and all(
            torch.equal(back[key], case.state[key]) for key in back
        )
        require(same, f"{case}, the state differs when it is read back")
        dose = case.dose
        steered = case.steer(dose)
        require(
            torch.equal(case.steer(dose, state=back), steered),
            f"{case}, a stored steering steers differently",
        )
        other = replace(
            case.contrast,
            positive=case.contrast.negative * 3 + 1,
            negative=case.contrast.positive,
            site=replace(case.contrast.site, layer=case.contrast.site.layer + 1),
        )
        method.fit(other)
        require(
            torch.equal(case.steer(dose), steered),
            f"{case}, a fit elsewhere changes what this steering does: keep all that edit needs in the state",
        )


def pure(method: Method) -> None:
    """fit and edit write into nothing that they are given."""
    import torch

    for case in cases(method):
        state = {key: value.clone() for key, value in case.state.items()}
        dose = torch.full((len(case.output), 1, 1), case.dose)
        given: dict[str, Tensor] = {
            "contrast.positive": case.contrast.positive,
            "contrast.negative": case.contrast.negative,
            "output": case.output.clone(),
            "dose": dose,
            "input": case.input.clone(),
            **{f"state[{key!r}]": value for key, value in state.items()},
        }
        before = {name: value.clone() for name, value in given.items()}
        with torch.inference_mode():
            method.fit(case.contrast)
            method.edit(given["output"], dose, given["input"], state)
        for name, value in given.items():
            require(torch.equal(value, before[name]), f"{case}, {name} has been written into")


def clean(method: Method) -> None:
    """Nothing is left behind, not even by an error: module, random states, torch's settings are as before."""
    from isokl_registry.conformance.side_effects import difference, reseeded, surroundings

    for case in cases(method):
        with reseeded(1):
            before = surroundings(case.contrast.module)
            _fit_and_fail(case)
            left = difference(before, surroundings(case.contrast.module))
        require(not left, f"{case}, {left} is changed after fit and edit")


def _fit_and_fail(case: Case) -> None:
    """Fit and edit, also what is refused and what stops midway."""
    import torch

    case.steer(case.dose)
    wide, one = torch.zeros(2, 1, case.output.shape[-1] + 1), torch.ones(2, 1, 1)
    with contextlib.suppress(Exception):
        case.method.edit(wide, one, wide, case.state)
    for contrast in _degenerate(case.contrast).values():
        with contextlib.suppress(Exception):
            case.method.fit(contrast)


def degenerate(method: Method) -> None:
    """A contrast that allows no fit is refused (ValueError, one line); else fit and edit are finite."""
    for case in cases(method):
        for name, contrast in _degenerate(case.contrast).items():
            try:
                state = method.fit(contrast)
            except ValueError as error:
                told = str(error).strip()
                require(
                    told and "\n" not in told,
                    f"{case}, {name} is refused without one line that says why: {told!r}",
                )
                continue
            except Exception as error:
                require(False, f"{case}, {name} raises {type(error).__name__} ({error}), not ValueError")
            _sound(case, state, name)


def _sound(case: Case, state: State, name: str) -> None:
    for key, value in state.items():
        require(
            value.isfinite().all(),
            f"{case}, {name} gives NaN or infinity in state[{key!r}]: raise ValueError",
        )
    for dose in (0.0, case.dose):
        steered = case.steer(dose, state=state)
        require(steered.isfinite().all(), f"{case}, {name} gives an edit that is not finite at dose {dose:g}")


def _degenerate(contrast: Contrast) -> dict[str, Contrast]:
    """Contrasts that lack something, by what a message calls them."""
    positive, negative = contrast.positive, contrast.negative
    same, other = positive[:1].expand_as(positive).clone(), negative[:1].expand_as(negative).clone()
    return {
        name: replace(contrast, positive=p, negative=n)
        for name, p, n in (
            ("a contrast of zero", positive, positive.clone()),
            ("a contrast of one difference in every pair", positive, positive + (other - same)),
            ("a contrast of one pair over and over", same, other),
            ("a contrast of one pair", positive[:1], negative[:1]),
            ("a contrast of two pairs", positive[:2], negative[:2]),
        )
    }
