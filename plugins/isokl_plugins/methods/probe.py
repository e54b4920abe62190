"""probe: the weight vector of a classifier that tells the personas apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from isokl_plugins.methods.vectors import AdditiveMethod, differences, unit
from isokl_registry import Contrast, State


@dataclass(frozen=True)
class Probe(AdditiveMethod):
    """Adds the weight vector of a logistic regression of P against N: y + c·v, v = w/‖w‖.

    scikit-learn's LogisticRegression with its default penalty (L2, C = 1), on rows less their mean, over their root mean
    square: one number for all coordinates, so that the penalty is as strong at every block and in every basis. (A scale
    for each coordinate would turn w towards the quiet ones.) Intuition: w weighs what separates the personas against
    what varies among messages. Known failure: what tells two states apart best need not be what moves the model from one
    to the other. The dose c is a length in the residual stream, positive towards the positive persona.
    """

    name: ClassVar[str] = "probe"

    def fit(self, contrast: Contrast) -> State:
        import torch
        from sklearn.linear_model import LogisticRegression

        differences(contrast)
        rows = torch.cat([contrast.positive, contrast.negative]).double()
        rows -= rows.mean(0)
        rows /= rows.square().mean().sqrt()
        labels = [1] * len(contrast.positive) + [0] * len(contrast.negative)
        found = LogisticRegression(tol=1e-6, max_iter=10_000).fit(rows.numpy(), labels)
        return {"v": unit(torch.from_numpy(found.coef_[0])).float()}
