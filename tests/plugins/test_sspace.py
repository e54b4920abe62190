"""Methods in the singular basis of the weights: their arithmetic, and their sites on every architecture."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import normalize
from transformers.pytorch_utils import Conv1D

from isokl_bench.engine.steering import Steering
from isokl_plugins.methods.singular import Basis, bias, weight
from isokl_plugins.methods.super_sspace import pooled_gram
from isokl_registry import Contrast, IsoklError, Site
from tests.architectures import CONFIGS, build

D, WIDE = 12, 20
SPECS = ["sspace", "sspace_ablate", "super_sspace"]
GATED = ["sspace", "super_sspace"]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(seed: int = 0, inputs: int = WIDE, outputs: int = D) -> nn.Linear:
    module, random = nn.Linear(inputs, outputs), generator(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random))
    return module


def contrast(module: nn.Module, seed: int = 0) -> Contrast:
    """Outputs of 16 random pairs of inputs that differ in the first few coordinates."""
    negative, positive = torch.randn(2, 16, D, generator=generator(seed))
    positive[:, :3] += 2
    return Contrast(positive, negative, Site(1), module, seed)


def rows(b: int = 5, s: int = 3) -> torch.Tensor:
    return torch.randn(b, s, D, generator=generator(1))


def doses(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1)


def by_hand(matrix: torch.Tensor, offset: torch.Tensor, pair: Contrast, r: int):
    """x_S, √S, U and d̂ as the formulas say, from an SVD in numpy. The r columns only."""
    u, s, _ = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    offset = offset.double().numpy()

    def coordinates(y):
        return (y.double().numpy() - offset) @ u / np.sqrt(s)

    d = coordinates(pair.positive).mean(0) - coordinates(pair.negative).mean(0)
    top = np.sort(np.argsort(-np.abs(d))[:r])
    return (lambda y: coordinates(y)[..., top]), np.sqrt(s[top]), u[:, top], d[top] / np.linalg.norm(d[top])


@pytest.mark.parametrize("r", [3, 64])
@pytest.mark.parametrize("inputs", [WIDE, D, 5])
def test_sspace_is_its_formula(registry, inputs, r):
    module = linear(inputs=inputs)
    pair, y, dose = contrast(module), rows(), doses(0.5, -1.0, 2.0, 10.0, 0.1)
    coordinates, roots, u, d = by_hand(module.weight.detach(), module.bias.detach(), pair, r)
    x = coordinates(y)
    gate = np.abs(x @ d) / np.linalg.norm(x, axis=-1)
    want = y.numpy() + dose.numpy() * gate[..., None] * (u @ (d * roots))
    method = registry.create("method", f"sspace[r={r}]")
    np.testing.assert_allclose(method.edit(y, dose, y, method.fit(pair)), want, atol=1e-4)


@pytest.mark.parametrize("r", [3, 64])
def test_ablation_is_its_formula(registry, r):
    module = linear()
    pair, y, dose = contrast(module), rows(), doses(0.5, -1.0, 2.0, 10.0, 0.1)
    coordinates, roots, u, d = by_hand(module.weight.detach(), module.bias.detach(), pair, r)
    want = y.numpy() - dose.numpy() * (coordinates(y) @ d)[..., None] * (u @ (d * roots))
    method = registry.create("method", f"sspace_ablate[r={r}]")
    np.testing.assert_allclose(method.edit(y, dose, y, method.fit(pair)), want, atol=1e-4)


def test_in_the_basis_of_an_orthogonal_weight_sspace_is_a_gated_mean_difference(registry):
    """S = 1: every basis is as good, x_S is y − b turned, and a dose of 1 adds a unit vector at most."""
    module = nn.Linear(D, D)
    with torch.no_grad():
        module.weight.copy_(torch.linalg.qr(torch.randn(D, D, generator=generator())).Q)
    pair, y = contrast(module), rows()
    v = normalize(pair.difference.mean(0), dim=0)
    gate = (normalize(y - module.bias.detach(), dim=-1) @ v).abs().unsqueeze(-1)
    method = registry.create("method", "sspace")
    torch.testing.assert_close(
        method.edit(y, doses(3.0), y, method.fit(pair)), y + 3 * gate * v, atol=1e-5, rtol=0
    )


@given(seed=st.integers(0, 1000), inputs=st.integers(1, 30))
@settings(max_examples=25)
def test_coordinates_of_what_a_linear_writes_are_its_inputs_scaled(seed, inputs):
    """(y − b)U/√S = √S Vᵀx, up to the sign of each singular pair."""
    module = linear(seed, inputs=inputs).double()
    x = torch.randn(7, inputs, generator=generator(seed + 1)).double()
    _, s, vh = torch.linalg.svd(module.weight.detach(), full_matrices=False)
    matrix = weight(module)
    basis = Basis.of_gram(matrix @ matrix.T)
    found = basis.coordinates(module(x).detach() - bias(module, D)).flip(-1)  # eigh is ascending
    kept = s > 1e-3 * s[0]
    torch.testing.assert_close(
        found[:, kept].abs(), (x @ vh.T * s.sqrt())[:, kept].abs(), atol=1e-6, rtol=1e-6
    )
    assert basis.vectors.shape[1] <= min(inputs, D)  # what the Linear cannot write is no coordinate


def block(seed: int = 0) -> nn.Module:
    """Reads and writes a stream of width D, with an inner square matrix that does neither, and a norm."""
    module = nn.Module()
    module.q_proj, module.o_proj = linear(seed, D, D), linear(seed + 1, D, D)
    module.up_proj, module.down_proj = linear(seed + 2, D, WIDE), linear(seed + 3, WIDE, D)
    module.inner, module.norm = linear(seed + 4, WIDE, WIDE), nn.LayerNorm(D)
    return module


def module_for(spec: str) -> nn.Module:
    return block() if spec.startswith("super") else linear()


def test_pooled_basis_is_that_of_the_writers_beside_the_readers_transposed(registry):
    module = block()
    parts = [module.q_proj.weight.T, module.o_proj.weight, module.up_proj.weight.T, module.down_proj.weight]
    stacked = torch.cat([part.detach() for part in parts], dim=1).double()
    torch.testing.assert_close(pooled_gram(module, D), stacked @ stacked.T)
    pair, y = contrast(module), rows()
    coordinates, roots, u, d = by_hand(stacked, torch.zeros(D), pair, 4)
    x = coordinates(y)
    gate = np.abs(x @ d) / np.linalg.norm(x, axis=-1)
    method = registry.create("method", "super_sspace[r=4]")
    want = y.numpy() + 2 * gate[..., None] * (u @ (d * roots))
    np.testing.assert_allclose(method.edit(y, doses(2.0), y, method.fit(pair)), want, atol=1e-4)


@pytest.mark.parametrize("spec", SPECS)
def test_dose_0_is_the_identity_and_a_dose_is_its_rows_own(registry, spec):
    method, y = registry.create("method", spec), rows()
    state = method.fit(contrast(module_for(spec)))
    assert torch.equal(method.edit(y, torch.zeros(5, 1, 1), y, state), y)
    mixed = doses(0.0, 0.3, -1.0, 1e6, -1e6)
    together = method.edit(y, mixed, y, state)
    assert together.isfinite().all()
    for i in range(5):
        alone = method.edit(y[i : i + 1], mixed[i : i + 1], y[i : i + 1], state)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-5, atol=1e-5)
    assert not torch.equal(together[1:], y[1:])


@pytest.mark.parametrize("spec", SPECS)
def test_a_steering_is_small_data(registry, spec):
    """Nothing that is d × d; float32; the same again from the same contrast, and after saving."""
    method = registry.create("method", f"{spec}[r=2]")
    pair = contrast(module_for(spec))
    state, again = method.fit(pair), method.fit(pair)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert sum(tensor.numel() for tensor in state.values()) <= 3 * D + 4
    back = Steering.from_bytes(Steering(method, {Site(1): state}).to_bytes(), registry)
    assert back.method == method
    for key, tensor in state.items():
        assert torch.equal(tensor, again[key])
        assert torch.equal(tensor, back.state[Site(1)][key])


@pytest.mark.parametrize("spec", GATED)
def test_the_gate_is_0_where_the_output_is_the_bias(registry, spec):
    module = module_for(spec)
    method = registry.create("method", spec)
    state = method.fit(contrast(module))
    y = torch.zeros(1, 1, D) if spec.startswith("super") else module.bias.detach().view(1, 1, D)
    gone = method.edit(y, doses(5.0), y, {**state, "offset": y[0, 0] @ state["whiten"]})
    assert torch.equal(gone, y)


@given(seed=st.integers(0, 1000), r=st.integers(1, 14))
@settings(max_examples=25)
def test_ablation_removes_the_direction_and_does_so_once(registry, seed, r):
    module = linear(seed, inputs=2 * WIDE)
    method = registry.create("method", f"sspace_ablate[r={r}]")
    pair, y = contrast(module, seed), rows()
    state = method.fit(pair)
    gone = method.edit(y, doses(1.0), y, state)
    coordinates, _, _, d = by_hand(module.weight.detach(), module.bias.detach(), pair, r)
    np.testing.assert_allclose(coordinates(gone) @ d, 0, atol=1e-4)
    torch.testing.assert_close(method.edit(gone, doses(1.0), gone, state), gone, atol=1e-4, rtol=0)
    flipped = method.edit(y, doses(2.0), y, state)
    np.testing.assert_allclose(coordinates(flipped) @ d, -(coordinates(y) @ d), atol=1e-4)


@pytest.mark.parametrize("spec", ["sspace", "sspace_ablate"])
def test_conv1d_is_the_linear_transposed(registry, spec):
    module, turned = linear(), Conv1D(D, WIDE)
    with torch.no_grad():
        turned.weight.copy_(module.weight.T)
        turned.bias.copy_(module.bias)
    method = registry.create("method", spec)
    of_linear, of_conv = method.fit(contrast(module)), method.fit(contrast(turned))
    assert of_linear.keys() == of_conv.keys()
    assert all(torch.equal(of_linear[key], of_conv[key]) for key in of_linear)


class BranchedRows(nn.Module):
    """As quantised Linears are kept: bytes instead of a matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.in_features, self.out_features, self.bias = WIDE, D, None
        self.weight = nn.Parameter(torch.zeros(D * WIDE // 2, 1, dtype=torch.uint8), requires_grad=False)


@pytest.mark.parametrize("spec", ["sspace", "sspace_ablate"])
@pytest.mark.parametrize("module", [nn.Identity(), nn.LayerNorm(D), BranchedRows(), nn.Embedding(WIDE, D)])
def test_a_module_without_a_matrix_is_refused(registry, spec, module):
    name = type(module).__name__
    with pytest.raises(ValueError, match=f"^{name} has no 2-D weight of floats: .* mean_diff, or a model"):
        registry.create("method", spec).fit(contrast(module))


def test_a_block_whose_weights_cannot_be_read_is_refused(registry):
    method, module = registry.create("method", "super_sspace"), block()
    with pytest.raises(ValueError, match="Identity has no Linear that reads or writes a stream of width 12"):
        method.fit(contrast(nn.Identity()))
    module.up_proj = BranchedRows()
    with pytest.raises(ValueError, match="BranchedRows has no 2-D weight of floats"):
        method.fit(contrast(module))


@pytest.mark.parametrize("spec", SPECS)
def test_a_zero_contrast_and_zero_weights_are_refused(registry, spec):
    method, module = registry.create("method", spec), module_for(spec)
    pair = contrast(module)
    with pytest.raises(ValueError, match="contrast is zero"):
        method.fit(dataclasses.replace(pair, negative=pair.positive))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    with pytest.raises(ValueError, match="weights are zero or not finite"):
        method.fit(pair)


def test_r_is_1_or_more(registry):
    for spec in SPECS:
        with pytest.raises(IsoklError, match=f"'{spec}': r=0 keeps no coordinate"):
            registry.create("method", f"{spec}[r=0]")


@pytest.fixture(scope="module", params=list(CONFIGS))
def lm(request):
    return build(request.param)


def test_every_matrix_of_a_block_reads_or_writes(lm):
    """The pooled basis of each architecture leaves out no Linear, and takes exactly two as writers."""
    for layer in (1, 2):  # of Qwen 3.5 one with linear and one with full attention
        width = lm.config.hidden_size
        want, linears = torch.zeros(width, width).double(), lm.blocks[layer].named_modules()
        matrices = {name: m for name, m in linears if isinstance(m, (nn.Linear, Conv1D))}
        writers = {site.linear for site in lm.sites([layer], registry_linears())}
        assert len(writers) == 2
        for name, module in matrices.items():
            matrix = weight(module)
            want += matrix @ matrix.T if name in writers else matrix.T @ matrix
        torch.testing.assert_close(pooled_gram(lm.blocks[layer], width), want)


def registry_linears() -> tuple[str, ...]:
    from isokl_plugins.methods.sspace import SSpace

    return SSpace.linears
