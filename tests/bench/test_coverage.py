"""`make coverage`, on a population that is made up."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.coverage import Drawn, coverage
from tests.benchmarks.pools import Pool

DOSES = np.geomspace(0.4, 2.5, 7)


@pytest.fixture
def recorded():
    """KL as the square of the dose, of texts that are strong or weak as a whole; some end early."""
    rng = np.random.default_rng(0)
    kl = rng.lognormal(0, 0.5, (96, 1)) * rng.gamma(0.5, size=(96, 20)) / 2.3
    kl[np.arange(20) >= rng.integers(8, 60, (96, 1))] = np.nan
    own = np.where(np.isnan(kl), np.nan, rng.exponential(size=kl.shape))
    steered = kl * DOSES[:, None, None] ** 2
    return Pool(DOSES, steered, own + 0.3 * steered, own, rng.normal(size=(4, 96)))


def test_the_table_has_what_was_measured(recorded):
    table = coverage(recorded, [4, 32], 60)
    assert all(len(cells) == 2 for cells in table.values())
    few, many = table["coefficient of kl_p95"]
    assert few.endswith("(50% open)")
    assert float(many.rstrip("%")) >= 88  # 60 sets: ± 3
    assert float(table["coefficient of kl_mean"][1].rstrip("%")) >= 88


def test_a_coefficient_is_held_where_the_stat_is(recorded, registry):
    """Its interval is made of those of the stat: at a dose of the recording both hold the truth in the same sets."""
    sets = np.random.default_rng(1).integers(0, 96, (60, 8))
    stat = registry.create("stat", "kl_mean")
    target = float(stat(recorded.at(3), recorded.base))
    (_, value), (_, coefficient) = Drawn(recorded, sets, 3).of_stat("kl_mean", stat, target)
    assert 0 < value[:, 0].mean() < 1
    assert (coefficient[:, 0] == value[:, 0]).all()
