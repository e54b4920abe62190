"""'Did you mean'."""

from __future__ import annotations

import pytest

from isokl_registry import unknown


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("pcs", ["pca", "mean_diff"], "unknown method 'pcs': did you mean 'pca'? available: mean_diff, pca"),
        ("PCA", ["pca"], "unknown method 'PCA': did you mean 'pca'? available: pca"),
        ("zzz", ["pca"], "unknown method 'zzz': available: pca"),
        ("", ["pca"], "unknown method '': available: pca"),
        ("pca", [], "unknown method 'pca': available: none"),
        ("a", iter(["b", "a_"]), "unknown method 'a': did you mean 'a_'? available: a_, b"),
    ],
)
def test_unknown(name, known, message):
    assert unknown("method", name, known) == message
