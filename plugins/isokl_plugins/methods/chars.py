"""chars: a displacement for each cluster of the negative persona, blended by how near a token is to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_plugins.methods.vectors import unit
from isokl_registry import Contrast, Method, State

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

EPSILON = 0.05  # weight of the entropy, in units of the mean cost


@dataclass(frozen=True)
class Chars(Method):
    """Adds the displacement of the clusters y is near to: y + c·Σ_i w_i(y)·Σ_j (π_ij / π_i)·(b_j − a_i).

    Source: CHaRS, arXiv:2603.02237. A concept seldom has one direction for all contexts, so N and P are clustered
    (k-means, centroids a_i and b_j), the clusters coupled by entropic optimal transport with their shares as masses
    (plan π), and each a_i is displaced to the mean of what it is coupled to. w_i(y) ∝ π_i·exp(−‖y − a_i‖² / 2σ²), π_i the
    share of cluster i: between clusters y gets a mixture, far out its nearest's. σ is one number, the median distance of
    N's rows from the centroids, where the published form takes a median for each token.

    The dose c is a share of the way: at 1 the centroids of N reach their partners, were each alone. A negative dose
    goes the other way, and k = 1 is mean_diff[normalize=false]. The cost is ‖b_j − a_i‖² over its mean, both sets
    centred first: a shift common to all clusters changes no coupling, but in the mean it would drown what does. Fails
    where the clusters are topics with too few pairs each to tell their displacements from noise.
    """

    name: ClassVar[str] = "chars"
    k: int = 4

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k is {self.k}: give at least 1 cluster")

    def fit(self, contrast: Contrast) -> State:
        """mean: [d], of N. centers: [k, d], a_i less that mean. displacement: [k, d]. width: [], σ. share: [k], log π_i.
        Fewer distinct rows than k make as many clusters."""
        import numpy as np
        import torch

        from isokl_plugins.methods.transport import sinkhorn

        unit(contrast.difference.flatten())
        negative, positive = (x.double().numpy() for x in (contrast.negative, contrast.positive))
        a, source = self._clusters(negative, contrast.seed)
        b, target = self._clusters(positive, contrast.seed)
        cost = _squared_distances(a - source @ a, b - target @ b)
        plan = sinkhorn(cost / (EPSILON * cost.mean() or 1.0), source, target)
        displacement = plan @ b / source[:, None] - a
        width = np.sqrt(np.median(_squared_distances(negative, a))) or 1.0
        mean = source @ a
        state = {"centers": a - mean, "mean": mean, "displacement": displacement, "width": np.asarray(width)}
        state["share"] = np.log(source)
        return {key: torch.from_numpy(value).float() for key, value in state.items()}

    def _clusters(
        self, rows: NDArray[np.float64], seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centroids [k, d] and their shares of the rows [k]."""
        import numpy as np
        from sklearn.cluster import KMeans

        k = min(self.k, len(np.unique(rows, axis=0)))
        found = KMeans(k, n_init=10, random_state=seed).fit(rows)
        return found.cluster_centers_, np.bincount(found.labels_, minlength=k) / len(rows)

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        centers = state["centers"]
        # −‖y − a‖²/2 less what all clusters share, seen from their mean, where float32 resolves most
        near = (output - state["mean"]) @ centers.T - centers.square().sum(-1) / 2
        weights = (near / state["width"] ** 2 + state["share"]).softmax(-1)
        return output + dose * (weights @ state["displacement"])


def _squared_distances(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n, d], [m, d] → [n, m]."""
    import numpy as np

    distances: NDArray[np.float64] = np.square(a[:, None] - b).sum(-1)
    return distances
