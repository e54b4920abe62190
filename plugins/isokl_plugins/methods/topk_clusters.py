"""topk_clusters: several directions, and to each token the one that it is nearest to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from isokl_plugins.methods.vectors import differences, unit
from isokl_registry import Contrast, Method, State

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TopkClusters(Method):
    """Adds one of k unit directions, the nearest to the token: y + c·C_j, j = argmax cos(y, C_j).

    C are the centroids of k-means (scikit-learn's, ten starts) on the differences of the pairs, each scaled to a unit, so
    that a loud pair counts as much as a quiet one; a centroid that points against mean(D) is turned round. Intuition: the
    personas may differ in one way in some contexts and in another way in others. Known failure: the nearest direction
    jumps between tokens that are alike, and few pairs give clusters of noise. The dose c is a length in the residual
    stream, positive towards the positive persona; it is not linear in its state, so steerings of it cannot be added.
    """

    name: ClassVar[str] = "topk_clusters"
    k: int = 4

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k={self.k} is not a number of clusters: give 1 or more")

    def fit(self, contrast: Contrast) -> State:
        import torch
        from sklearn.cluster import KMeans

        difference = differences(contrast)
        lengths = difference.norm(dim=-1, keepdim=True)
        rows = (difference / lengths)[lengths[:, 0] > 0]
        distinct = len(rows.round(decimals=6).unique(dim=0))  # k-means warns and repeats a centroid otherwise
        if distinct < self.k:
            raise ValueError(
                f"{len(difference)} pair(s) with {distinct} distinct direction(s) are fewer than {self.k} clusters: "
                "fit on more pairs, or lower k"
            )
        means = KMeans(self.k, n_init=10, random_state=contrast.seed % 2**32).fit(rows.numpy())
        centroids = torch.stack([unit(mean) for mean in torch.from_numpy(means.cluster_centers_)])
        centroids[centroids @ difference.mean(0) < 0] *= -1
        return {"centroids": centroids.float()}

    def edit(self, output: Tensor, dose: Tensor, input: Tensor, state: State) -> Tensor:
        centroids = state["centroids"]
        nearest = (output @ centroids.T).argmax(-1)  # [b, s]; centroids are units, so this is the cosine's
        return output + dose * centroids[nearest]
