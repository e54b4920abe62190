"""Steerings as files, and steerings added and scaled."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from isokl_bench.engine.compose import Composed
from isokl_bench.engine.hooks import attached
from isokl_bench.engine.steering import Steering
from isokl_registry import Contrast, IsoklError, Registry, Site, load_registry
from tests.architectures import build

MODEL = {"source": "tiny-qwen", "blocks": 4, "weights": "ab12"}
A_SITES, B_SITES = (Site(1), Site(2)), (Site(2), Site(3))
TEXTS = ["Tell me of the sea.", "Hi"]


def steering(
    spec: str, sites=A_SITES, d: int = 16, seed: int = 0, length: float = 1.0, **metadata
) -> Steering:
    generator = torch.Generator().manual_seed(seed)
    method = load_registry().create("method", spec)
    state = {}
    for site in sites:
        positive, negative = (torch.randn(12, d, generator=generator) for _ in range(2))
        found = method.fit(Contrast(positive, negative, site, torch.nn.Identity(), seed))
        state[site] = {key: length * value for key, value in found.items()}
    shared = {
        "site": "output of a transformer block",
        "layers": [site.layer for site in sites],
        "layer_numbering": "0 is the first transformer block",
        "model": MODEL,
        "behavior": "honesty",
        "sign": "a positive dose is meant to move towards the positive persona",
        "calibrated": {"+1": {"coefficient": 3.0}},
    }
    return Steering(method, state, shared | metadata)


@pytest.fixture
def a() -> Steering:
    return steering("mean_diff")


@pytest.fixture
def b() -> Steering:
    return steering("pca", B_SITES, seed=1, behavior="sentiment")


def vectors(found: Steering) -> dict[Site, torch.Tensor]:
    assert all(list(state) == ["v"] for state in found.state.values())
    return {site: state["v"] for site, state in found.state.items()}


# The arithmetic


def test_sites_are_united_and_vectors_at_a_common_site_added(a, b):
    found, va, vb = vectors(a + b), vectors(a), vectors(b)
    assert list(found) == [Site(1), Site(2), Site(3)]
    assert torch.equal(found[Site(1)], va[Site(1)])
    assert torch.equal(found[Site(2)], va[Site(2)] + vb[Site(2)])
    assert torch.equal(found[Site(3)], vb[Site(3)])


@given(one=st.floats(-100, 100), two=st.floats(-100, 100))
def test_weights_are_those_of_a_vector_space(one, two):
    a, b = steering("mean_diff"), steering("pca", B_SITES, seed=1)
    found, va, vb = vectors(one * a - b * two), vectors(a), vectors(b)
    zero = torch.zeros(16)
    for site, v in found.items():
        torch.testing.assert_close(
            v, one * va.get(site, zero) - two * vb.get(site, zero), atol=1e-4, rtol=1e-5
        )


def test_minus_half_and_numpy_numbers(a):
    for found, weight in (
        (-a, -1),
        (0.5 * a, 0.5),
        (a * 2, 2),
        (np.float32(0.5) * a, 0.5),
        (np.float64(3) * a, 3),
    ):
        assert isinstance(found, Steering)
        for site, v in vectors(found).items():
            assert torch.equal(v, weight * a.state[site]["v"])
            assert v.dtype == torch.float32
    assert all((v == 0).all() for v in vectors(a - a).values())


def test_operands_stay_as_they_were(a, b):
    before = a.to_bytes(), b.to_bytes()
    _ = 2 * (a + b) - a
    assert (a.to_bytes(), b.to_bytes()) == before


def test_what_is_no_steering_is_a_type_error(a):
    for wrong in (lambda: a + 1, lambda: a - [a], lambda: a * a, lambda: "x" * a, lambda: 1 + a):
        with pytest.raises(TypeError):
            wrong()


# The metadata


def test_metadata_says_what_it_is_composed_of(a, b):
    raw = steering("mean_diff[normalize=false]")
    found = 0.5 * (a - b) + 3 * raw
    assert found.method == Composed()
    assert found.metadata == {
        "site": "output of a transformer block",
        "layers": [1, 2, 3],
        "layer_numbering": "0 is the first transformer block",
        "model": MODEL,
        "composed": [
            {"weight": 0.5, "params": {"normalize": True}, **term("mean_diff", "honesty", [1, 2])},
            {"weight": -0.5, "params": {}, **term("pca", "sentiment", [2, 3])},
            {"weight": 3.0, "params": {"normalize": False}, **term("mean_diff", "honesty", [1, 2])},
        ],
    }


def term(method: str, behavior: str, layers: list[int]) -> dict:
    return {
        "method": method,
        "version": 1,
        "behavior": behavior,
        "layers": layers,
        "site": "output of a transformer block",
        "sign": "a positive dose is meant to move towards the positive persona",
    }


def test_calibration_does_not_outlive_a_composition(a, b):
    for found in (a + b, a - b, -a, 2 * a):
        assert "calibrated" in a.metadata
        assert "calibrated" not in json.dumps(found.metadata)


# Refusals


@pytest.mark.parametrize("spec", ["directional_ablation", "cosine_gated[tau=0.1]", "topk_clusters[k=3]"])
def test_methods_that_do_more_than_add_are_refused(a, spec):
    other = steering(spec)
    for wrong in (lambda: a + other, lambda: other - a, lambda: -other, lambda: 0.5 * other):
        with pytest.raises(IsoklError) as error:
            wrong()
        assert str(error.value).startswith(f"{spec} cannot be composed, it does more than add a vector: ")


def test_different_models_are_refused(a):
    cases = [
        (MODEL | {"source": "tiny-llama", "weights": "cd"}, r"\(source: tiny-qwen and tiny-llama\)"),
        (MODEL | {"weights": "cd34"}, r"\(weights: ab12 and cd34\)"),
        ({}, r"\(source: tiny-qwen and unknown\)"),
    ]
    for model, message in cases:
        with pytest.raises(
            IsoklError, match=f"steerings of different models cannot be added {message}: fit both"
        ):
            _ = a + steering("pca", model=model)


def test_other_widths_and_vectors_too_large_are_refused(a):
    with pytest.raises(IsoklError, match="widths 16 and 8 at block 1 cannot be added"):
        _ = a + steering("pca", d=8)
    for weight in (1e300, float("inf"), float("nan")):
        with pytest.raises(IsoklError, match="at block 1 is not finite: give smaller weights"):
            _ = weight * a


def test_a_composed_steering_is_not_fitted(registry):
    with pytest.raises(ValueError, match="not fitted: add steerings, or load it from a file"):
        Composed().fit(Contrast(torch.ones(1, 2), torch.zeros(1, 2), Site(0), torch.nn.Identity(), 0))
    with pytest.raises(IsoklError, match="composed"):
        registry.create("method", Composed.name)


# On models


def hooked(lm, row, shifts: dict[Site, torch.Tensor]) -> torch.Tensor:
    """Logits [v] at the last token of one text, with a vector added to each block's output by hand."""

    def hook(shift):
        return lambda module, args, out: (out[0] + shift, *out[1:]) if isinstance(out, tuple) else out + shift

    handles = [lm.blocks[site.layer].register_forward_hook(hook(shift)) for site, shift in shifts.items()]
    try:
        with torch.inference_mode():
            return lm.model(input_ids=torch.tensor([row])).logits[0, -1].float()
    finally:
        for handle in handles:
            handle.remove()


def logits(lm, found: Steering, doses: list[float]) -> torch.Tensor:
    """[doses, texts, v], all in one batch."""
    rows = [lm.chat.ids(text) for text in TEXTS] * len(doses)
    ids, mask = lm.pad_rows(rows)
    with torch.inference_mode(), attached(lm, found) as edits:
        edits.arrange(torch.tensor(doses).repeat_interleave(len(TEXTS)))
        return lm.forward(ids, mask).reshape(len(doses), len(TEXTS), -1)


@pytest.fixture(params=["tiny-qwen", "gemma3"])
def lm(request, tiny):
    return tiny if request.param == "tiny-qwen" else build(request.param)


@pytest.fixture
def pair(lm) -> tuple[Steering, Steering]:
    """Of a length that moves the model, and overlapping in one block of three."""
    with torch.inference_mode():
        ids = torch.tensor([lm.chat.ids(TEXTS[0])])
        length = 0.3 * float(
            lm.model(input_ids=ids, output_hidden_states=True).hidden_states[2][0, -1].norm()
        )
    d = lm.config.hidden_size
    return (
        steering("mean_diff", A_SITES, d, seed=0, length=length),
        steering("pca", B_SITES, d, seed=1, length=length),
    )


def test_a_sum_does_what_both_edits_by_hand_do(lm, pair):
    a, b = pair
    doses = [0.0, 1.0, -0.7]
    found = logits(lm, 2 * a - 0.5 * b, doses)
    for i, dose in enumerate(doses):
        shifts = {
            Site(1): dose * 2 * a.state[Site(1)]["v"],
            Site(2): dose * (2 * a.state[Site(2)]["v"] - 0.5 * b.state[Site(2)]["v"]),
            Site(3): dose * -0.5 * b.state[Site(3)]["v"],
        }
        for p, text in enumerate(TEXTS):
            row = lm.chat.ids(text)
            torch.testing.assert_close(found[i, p], hooked(lm, row, shifts), atol=1e-3, rtol=1e-3)
            only_a = {site: dose * 2 * state["v"] for site, state in a.state.items()}
            for other in ({}, only_a):  # the test could fail
                assert dose == 0 or (found[i, p] - hooked(lm, row, other)).abs().max() > 0.05


def test_half_a_steering_is_half_the_dose(lm, pair):
    a, _ = pair
    halves = logits(lm, 0.5 * a, [1.0, -2.0])
    assert torch.equal(halves, logits(lm, a, [0.5, -1.0]))  # a power of two: no rounding
    torch.testing.assert_close(logits(lm, a + a, [0.5]), logits(lm, a, [1.0]))
    assert not torch.equal(halves[0], halves[1])


def test_dose_0_is_the_identity_bit_for_bit(lm, pair):
    a, b = pair
    rows = [lm.chat.ids(text) for text in TEXTS]
    with torch.inference_mode():
        want = lm.forward(*lm.pad_rows(rows))[:, 0]
    assert torch.equal(logits(lm, a + b, [0.0])[0], want)


# Files


@pytest.mark.parametrize(
    "make",
    [
        lambda: steering("mean_diff[normalize=false]"),
        lambda: steering("topk_clusters[k=3]"),
        lambda: steering("probe", (Site(0, "mlp.down_proj"),)),
        lambda: 2 * steering("mean_diff") - steering("pca", B_SITES),
    ],
)
def test_a_file_gives_back_what_was_saved(make, tmp_path):
    saved, path = make(), tmp_path / "s.safetensors"
    saved.save(path)
    back = Steering.load(str(path))
    assert back.method == saved.method
    assert back.metadata == saved.metadata
    assert back.state.keys() == saved.state.keys()
    for site, state in saved.state.items():
        assert all(torch.equal(back.state[site][key], value) for key, value in state.items())
    assert back.to_bytes() == path.read_bytes()


def test_what_was_loaded_composes(a, b, tmp_path):
    (a + b).save(tmp_path / "sum")
    found = 2 * Steering.load(tmp_path / "sum")
    assert [one["weight"] for one in found.metadata["composed"]] == [2.0, 2.0]
    assert torch.equal(found.state[Site(1)]["v"], 2 * a.state[Site(1)]["v"])


def test_a_safetensors_reader_sees_plain_tensors(a, tmp_path):
    a.save(tmp_path / "a.safetensors")
    found = safetensors.torch.load_file(tmp_path / "a.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in found.items()} == {"1/v": (16,), "2/v": (16,)}


def test_the_methods_come_from_the_registry_that_is_given(a, tmp_path):
    a.save(tmp_path / "a")
    with pytest.raises(IsoklError, match="mean_diff"):
        Steering.load(tmp_path / "a", Registry())


def head(**changes) -> str:
    plain = {"method": "mean_diff", "version": 1, "params": {"normalize": True}, "operation": "add"}
    return json.dumps({key: value for key, value in (plain | changes).items() if value != "gone"})


V = {"1/v": torch.ones(3)}
NOT_STEERINGS = {
    "empty": b"",
    "text": b"mean_diff = 3\n",
    "a foreign tensor file": safetensors.torch.save(V),
    "other metadata": safetensors.torch.save(V, {"format": "pt"}),
    "metadata that is no JSON": safetensors.torch.save(V, {"isokl": "{"}),
    "metadata that is a list": safetensors.torch.save(V, {"isokl": "[1]"}),
    "metadata that is a number": safetensors.torch.save(V, {"isokl": "1"}),
    "no method": safetensors.torch.save(V, {"isokl": head(method="gone")}),
    "no version": safetensors.torch.save(V, {"isokl": head(version="gone")}),
    "params that are a number": safetensors.torch.save(V, {"isokl": head(params=3)}),
    "a tensor at no site": safetensors.torch.save({"v": torch.ones(3)}, {"isokl": head()}),
    "a site that is no block": safetensors.torch.save({"x/v": torch.ones(3)}, {"isokl": head()}),
    "cut off": safetensors.torch.save(V, {"isokl": head()})[:-4],
}


@pytest.mark.parametrize("name", NOT_STEERINGS)
def test_what_is_no_steering_is_said_in_one_line(name, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(NOT_STEERINGS[name])
    with pytest.raises(
        IsoklError, match=r"file: not a steering written by isokl \(\w+\): fit it again"
    ) as error:
        Steering.load(path)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)


def test_unknown_method_version_or_parameter(tmp_path):
    cases = {
        "nothing_like_it": head(method="nothing_like_it"),
        "another version of mean_diff": head(version=99),
        "nope": head(params={"nope": 1}),
    }
    for message, text in cases.items():
        (tmp_path / "file").write_bytes(safetensors.torch.save(V, {"isokl": text}))
        with pytest.raises(IsoklError, match=rf"file: .*{message}"):
            Steering.load(tmp_path / "file")
    (tmp_path / "file").write_bytes(safetensors.torch.save(V, {"isokl": head()}))
    # The cases differ in one thing.
    assert Steering.load(tmp_path / "file").state[Site(1)]["v"].tolist() == [1, 1, 1]


def test_paths_that_cannot_be_read_or_written(a, tmp_path):
    with pytest.raises(IsoklError, match=r"steering .*none cannot be read \(No such file or directory\)"):
        Steering.load(tmp_path / "none")
    with pytest.raises(IsoklError, match=r"cannot be read \(Is a directory\): check the path"):
        Steering.load(tmp_path)
    with pytest.raises(
        IsoklError, match=r"cannot be written \(No such file or directory\): give another path"
    ):
        a.save(tmp_path / "none" / "a")


def test_a_replaced_metadata_survives(a, tmp_path):
    named = dataclasses.replace(a, metadata=a.metadata | {"behavior": "höflich · 礼"})
    named.save(tmp_path / "a")
    assert Steering.load(tmp_path / "a").metadata["behavior"] == "höflich · 礼"
