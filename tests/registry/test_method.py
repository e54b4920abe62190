"""Sites and contrasts."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from isokl_registry import Contrast, Site

SITES = st.builds(Site, st.integers(0, 200), st.sampled_from(["", "mlp.down_proj", "self_attn.o_proj"]))


@given(SITES)
def test_a_site_is_read_back(site):
    assert Site.parse(str(site)) == site


def test_sites_are_written_and_ordered_by_layer():
    assert [str(site) for site in sorted([Site(10), Site(2, "mlp.down_proj"), Site(2)])] == [
        "2",
        "2.mlp.down_proj",
        "10",
    ]


def test_difference_is_positive_minus_negative():
    positive, negative = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 1.0], [5.0, 0.0]])
    contrast = Contrast(positive, negative, Site(0), torch.nn.Identity(), 0)
    assert contrast.difference.tolist() == [[0.0, 1.0], [-2.0, 4.0]]
