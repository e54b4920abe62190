"""spherical and angular: how far they turn, towards what, and what they leave alone."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isokl_plugins.methods.angular import Angular
from isokl_plugins.methods.spherical import Spherical
from isokl_registry import Contrast, Site

N, D = 12, 16
SEEDS = st.integers(0, 2**32)


def contrast(difference: torch.Tensor | None = None, seed: int = 0) -> Contrast:
    generator = torch.Generator().manual_seed(seed)
    if difference is None:
        difference = torch.randn(N, D, generator=generator)
        difference[:, 0] += 2
    negative = torch.randn(len(difference), D, generator=generator)
    return Contrast(negative + difference, negative, Site(1), torch.nn.Identity(), seed)


def rows(seed: int, size: float = 1.0) -> torch.Tensor:
    return size * torch.randn(2, 3, D, generator=torch.Generator().manual_seed(seed))


def steer(method, y: torch.Tensor, dose: float, state) -> torch.Tensor:
    return method.edit(y, torch.full((len(y), 1, 1), dose), y, state)


def angle_to(v: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """∠(y, v) in float64, [b, s]."""
    y, v = y.double(), v.double()
    along = y @ v / v.norm()
    return torch.atan2((y - along.unsqueeze(-1) * v / v.norm()).norm(dim=-1), along)


@pytest.fixture(scope="module")
def sphere():
    return Spherical().fit(contrast())


@pytest.fixture(scope="module")
def plane():
    return Angular().fit(contrast())


@settings(max_examples=50)
@given(seed=SEEDS, dose=st.floats(-1, 1), size=st.sampled_from([1e-3, 1.0, 1e4]))
def test_spherical_goes_the_doses_share_of_the_way_and_keeps_the_norm(sphere, seed, dose, size):
    y = rows(seed, size)
    steered = steer(Spherical(), y, dose, sphere)
    goal = sphere["v"] if dose >= 0 else -sphere["v"]
    torch.testing.assert_close(steered.norm(dim=-1), y.norm(dim=-1), rtol=1e-5, atol=0)
    expected = (1 - abs(dose)) * angle_to(goal, y)
    torch.testing.assert_close(angle_to(goal, steered), expected, atol=1e-5, rtol=0)


def test_spherical_stays_in_the_plane_of_y_and_v(sphere):
    y = rows(0)
    steered = steer(Spherical(), y, 0.4, sphere)
    for before, after in zip(y.view(-1, D), steered.view(-1, D), strict=True):
        basis = torch.linalg.qr(torch.stack([before, sphere["v"]], 1)).Q
        torch.testing.assert_close(basis @ (basis.T @ after), after, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("dose", "sign"), [(1.0, 1), (-1.0, -1)])
def test_spherical_at_1_is_the_direction_itself(sphere, dose, sign):
    y = rows(0, 50.0)
    goal = sign * y.norm(dim=-1, keepdim=True) * sphere["v"]
    torch.testing.assert_close(steer(Spherical(), y, dose, sphere), goal, atol=1e-3, rtol=0)


def test_spherical_agrees_with_slerp(sphere):
    """sin((1 − c)Ω)/sin Ω · ŷ + sin(cΩ)/sin Ω · v, times ‖y‖."""
    y, v, c = rows(3).double(), sphere["v"].double(), 0.3
    omega = angle_to(v, y).unsqueeze(-1)
    norm = y.norm(dim=-1, keepdim=True)
    slerp = (((1 - c) * omega).sin() * y / norm + (c * omega).sin() * v) / omega.sin() * norm
    torch.testing.assert_close(steer(Spherical(), rows(3), c, sphere), slerp.float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("off", [0.0, 1e-7, 1e-5, 1e-3])
@pytest.mark.parametrize("dose", [-1.0, -0.5, 0.5, 1.0])
def test_spherical_on_and_near_the_line_of_v(sphere, sign, off, dose):
    across = torch.linalg.qr(torch.stack([sphere["v"], rows(0)[0, 0]], 1)).Q[:, 1]
    y = (7 * (sign * sphere["v"] + off * across)).view(1, 1, D)
    steered = steer(Spherical(), y, dose, sphere)
    goal = math.copysign(1, dose) * sphere["v"]
    torch.testing.assert_close(steered.norm(dim=-1), y.norm(dim=-1), rtol=1e-5, atol=0)
    expected = (1 - abs(dose)) * angle_to(goal, y)
    torch.testing.assert_close(angle_to(goal, steered), expected, atol=1e-5, rtol=0)


def test_spherical_turns_what_is_opposite_to_v_through_a_direction_across_it():
    state = Spherical().fit(contrast(3 * torch.eye(D)[:1]))
    y = -5 * state["v"].view(1, 1, D)
    half = steer(Spherical(), y, 0.5, state)
    torch.testing.assert_close(half[0, 0], 5 * state["across"], atol=1e-5, rtol=0)
    assert state["across"].norm() == pytest.approx(1, abs=1e-6)
    assert state["across"] @ state["v"] == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(steer(Spherical(), y, 1.0, state), -y, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dose", [0.0, 0.5, 1.0, -1.0, 1e6])
def test_rotations_leave_zero_at_zero(sphere, plane, dose):
    zero = torch.zeros(2, 3, D)
    assert torch.equal(steer(Spherical(), zero, dose, sphere), zero)
    assert torch.equal(steer(Angular(), zero, dose, plane), zero)


@settings(max_examples=30)
@given(seed=SEEDS, dose=st.floats(-1e6, 1e6))
def test_rotations_keep_the_norm_at_every_dose(sphere, plane, seed, dose):
    y = rows(seed)
    for method, state in ((Spherical(), sphere), (Angular(), plane)):
        torch.testing.assert_close(
            steer(method, y, dose, state).norm(dim=-1), y.norm(dim=-1), rtol=1e-5, atol=0
        )


@pytest.mark.parametrize("size", [1e-6, 1e4])
def test_rotations_are_the_identity_at_0_bit_for_bit_wherever_y_is(sphere, plane, size):
    v = sphere["v"]
    y = torch.cat([rows(1, size), (size * torch.stack([v, -v, 0 * v])).view(1, 3, D)])
    assert torch.equal(steer(Spherical(), y, 0.0, sphere), y)
    assert torch.equal(steer(Angular(), y, 0.0, plane), y)


def test_rotations_have_a_range(registry):
    assert registry.create("method", "spherical").dose_range == (0, 1)
    assert registry.create("method", "angular").dose_range == (0, math.pi)


def polar(y: torch.Tensor, plane: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Length and angle from b1 of the part in the plane, in float64."""
    x = y.double() @ plane.double().T
    return x.norm(dim=-1), torch.atan2(x[..., 1], x[..., 0])


@settings(max_examples=50)
@given(seed=SEEDS, dose=st.floats(-math.pi, math.pi))
def test_angular_turns_the_part_in_the_plane_by_the_dose_and_nothing_else(plane, seed, dose):
    y, basis = rows(seed), plane["plane"]
    steered = steer(Angular(), y, dose, plane)
    (length, before), (kept, after) = polar(y, basis), polar(steered, basis)
    torch.testing.assert_close(kept, length, rtol=1e-5, atol=1e-6)
    turned = torch.remainder(before - after - before.sign() * dose + math.pi, 2 * math.pi) - math.pi
    torch.testing.assert_close(length * turned, torch.zeros_like(turned), atol=1e-5, rtol=0)
    rest = y - y @ basis.T @ basis
    torch.testing.assert_close(steered - steered @ basis.T @ basis, rest, atol=1e-5, rtol=0)


def test_angular_comes_nearer_to_b1_from_either_side_until_it_is_there(plane):
    b1, b2 = plane["plane"]
    y = torch.stack([b2, -b2, -b1 + 0.1 * b2, -b1 - 0.1 * b2]).view(1, 4, D)
    for c in (0.1, 0.7, 1.5):
        steered = steer(Angular(), y, c, plane)
        torch.testing.assert_close(angle_to(b1, steered), angle_to(b1, y) - c, atol=1e-5, rtol=0)
        away = steer(Angular(), y[:, :2], -c, plane)
        torch.testing.assert_close(angle_to(b1, away), angle_to(b1, y[:, :2]) + c, atol=1e-5, rtol=0)
    there = steer(Angular(), y[:, :2], math.pi / 2, plane)
    torch.testing.assert_close(there, b1.expand(1, 2, D), atol=1e-6, rtol=0)


def test_angular_at_pi_is_the_opposite_in_the_plane(plane):
    y, basis = rows(0), plane["plane"]
    opposite = y - 2 * y @ basis.T @ basis
    torch.testing.assert_close(steer(Angular(), y, math.pi, plane), opposite, atol=1e-5, rtol=0)


def test_angulars_plane_is_the_mean_and_the_first_component_of_the_unit_differences():
    """Differences e0 ± 0.5 e1 and e0 ± 0.1 e2: the mean is e0, and the units vary most along e1."""
    difference = torch.zeros(N, D)
    difference[:, 0] = 1
    difference[0::4, 1], difference[1::4, 1] = 0.5, -0.5
    difference[2::4, 2], difference[3::4, 2] = 0.1, -0.1
    lengths = torch.linspace(1, 5, N // 4).repeat_interleave(4).unsqueeze(1)  # have no say in b2
    plane = Angular().fit(contrast(lengths * difference))["plane"]
    torch.testing.assert_close(plane.abs(), torch.eye(D)[:2], atol=1e-5, rtol=0)
    assert plane[0, 0] > 0


def test_angulars_plane_is_orthonormal_and_ignores_pairs_without_a_difference():
    difference = contrast(seed=4).difference
    fitted = Angular().fit(contrast(torch.cat([difference, torch.zeros(3, D)])))["plane"]
    torch.testing.assert_close(fitted @ fitted.T, torch.eye(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(fitted, Angular().fit(contrast(difference))["plane"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "difference",
    [
        torch.ones(N, D),
        torch.linspace(-1, 2, N).unsqueeze(1) * torch.arange(1.0, D + 1),
        torch.ones(1, D),
    ],
    ids=["the same", "rank one, both signs", "one pair"],
)
def test_angular_refuses_a_contrast_without_a_second_direction(difference):
    with pytest.raises(ValueError, match="a plane needs two"):
        Angular().fit(contrast(difference))
