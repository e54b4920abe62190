"""Steerings added and scaled: one vector per site, the weighted sum of what its terms add there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from isokl_registry import Contrast, IsoklError, Method, Site, State

COMMON = ("model", "layer_numbering")  # what all terms share, said once


class Term(Protocol):
    """What is added up: a `steering.Steering`."""

    @property
    def method(self) -> Method: ...
    @property
    def state(self) -> Mapping[Site, Mapping[str, Tensor]]: ...
    @property
    def metadata(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Composed(Method):
    """The method of a composed steering: y + c·Σ wᵢvᵢ.

    It is not registered, because it cannot be fitted; with the parentheses no plugin can take its name. At
    dose c it does what term i does at dose c·wᵢ, so that `3 * a + 2 * b` at dose 1 is a at 3 and b at 2,
    together.
    """

    name: ClassVar[str] = "(composed)"
    linear: ClassVar[bool] = True

    def fit(self, contrast: Contrast) -> State:
        raise ValueError("a composed steering is not fitted: add steerings, or load it from a file")

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        return output + dose * state["v"]


def weighted_sum(
    terms: Sequence[tuple[float, Term]],
) -> tuple[Method, dict[Site, dict[str, Tensor]], dict[str, Any]]:
    """Method, state and metadata of Σ weight · steering: sites are united, vectors at a common site added.

    The metadata lists the terms, without their calibration: the sum has a budget of its own.

    Raises:
        IsoklError: for a method that is not linear, steerings of different models, vectors of different
            widths, and a sum that is too large.
    """
    for _, steering in terms:
        if not steering.method.linear:
            raise IsoklError(
                f"{steering.method.label()} cannot be composed, it does more than add a vector: add and "
                "scale steerings of linear methods, as mean_diff"
            )
    _check_model([steering for _, steering in terms])
    vectors: dict[Site, Tensor] = {}
    for weight, steering in terms:
        for site, state in steering.state.items():
            vectors[site] = _plus(vectors.get(site), weight * state["v"], site)
    return Composed(), {site: {"v": vectors[site]} for site in sorted(vectors)}, _metadata(terms)


def _check_model(steerings: Sequence[Term]) -> None:
    first, *others = (_identity(steering) for steering in steerings)
    for other in others:
        differ = sorted(key for key in first | other if first.get(key) != other.get(key))
        if differ:
            key = "source" if "source" in differ else differ[0]
            one, two = (str(identity.get(key, "unknown"))[:60] for identity in (first, other))
            raise IsoklError(
                f"steerings of different models cannot be added ({key}: {one} and {two}): "
                "fit both on one model"
            )


def _identity(steering: Term) -> dict[str, Any]:
    model = steering.metadata.get("model", {})
    return model if isinstance(model, dict) else {"source": model}


def _plus(total: Tensor | None, vector: Tensor, site: Site) -> Tensor:
    if total is not None and total.shape != vector.shape:
        raise IsoklError(
            f"vectors of widths {total.shape[-1]} and {vector.shape[-1]} at block {site} cannot be added: "
            "fit both on one model"
        )
    found = vector if total is None else total + vector
    if not torch.isfinite(found).all():
        raise IsoklError(f"the composed vector at block {site} is not finite: give smaller weights")
    return found


def _metadata(terms: Sequence[tuple[float, Term]]) -> dict[str, Any]:
    first = terms[0][1].metadata
    sites = sorted({steering.metadata["site"] for _, steering in terms if "site" in steering.metadata})
    return {key: first[key] for key in COMMON if key in first} | {
        "site": " and ".join(sites),
        "layers": sorted({site.layer for _, steering in terms for site in steering.state}),
        "composed": [term for weight, steering in terms for term in _terms(weight, steering)],
    }


def _terms(weight: float, steering: Term) -> list[dict[str, Any]]:
    """What a steering is made of; one that is composed already is taken apart."""
    if isinstance(steering.method, Composed):
        return [term | {"weight": weight * term["weight"]} for term in steering.metadata["composed"]]
    method = steering.method
    what = {"weight": weight, "method": method.name, "version": method.version, "params": method.params()}
    left_out = (*COMMON, "calibrated")
    return [what | {key: value for key, value in steering.metadata.items() if key not in left_out}]
