"""The methods that add a vector: closed forms, scikit-learn, and hand-written hooks on every architecture."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from isokl_bench.engine.activations import record
from isokl_bench.engine.hooks import attached
from isokl_bench.engine.steering import Steering
from isokl_registry import Contrast, IsoklError, Site, load_registry
from tests.architectures import CONFIGS, build

ADDITIVE = ["mean_diff", "mean_diff[normalize=false]", "pca", "pca_center", "probe", "random"]
TEXTS = [
    "Tell me of the sea.",
    "Hi",
    "What is the longest river?",
    "Shall we go?",
    "A word on rain",
    "Why so late?",
]
PERSONAS = (" Joy!! So", " Woe.. So")  # within the shortest sliding window of the last token, that they share


def contrast(positive, negative) -> Contrast:
    positive, negative = (torch.as_tensor(half, dtype=torch.float32) for half in (positive, negative))
    return Contrast(positive, negative, Site(1), torch.nn.Identity(), 0)


def noise(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def planted(n: int = 64, d: int = 32, seed: int = 0, strength: float = 2.0) -> tuple[Contrast, np.ndarray]:
    """Pairs that share a message, with noise of their own, and the unit direction in which they differ."""
    direction = noise(1, d, seed + 1000)[0]
    direction /= np.linalg.norm(direction)
    message, own = noise(n, d, seed), noise(2 * n, d, seed + 1).reshape(2, n, d)
    return contrast(message + own[0] + strength * direction, message + own[1]), direction


def fitted(spec: str, pairs: Contrast) -> np.ndarray:
    state = load_registry().create("method", spec).fit(pairs)
    assert list(state) == ["v"]
    assert state["v"].dtype == torch.float32
    return state["v"].double().numpy()


def component(rows: np.ndarray) -> np.ndarray:
    """scikit-learn's first principal component, of either sign."""
    return PCA(n_components=1).fit(rows).components_[0]


def mirrored(difference: np.ndarray) -> np.ndarray:
    """±D: rows whose mean is zero, so that a PCA that centres sees D uncentred."""
    return np.concatenate([difference, -difference])


def on_side(direction: np.ndarray, towards: np.ndarray) -> np.ndarray:
    return direction if direction @ towards > 0 else -direction


def centred(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    middle = (positive + negative) / 2
    return np.concatenate([positive - middle, negative - middle])


@pytest.mark.parametrize("spec", ADDITIVE)
def test_the_edit_adds_the_dose_times_the_vector(spec):
    pairs, _ = planted(d=16)
    method = load_registry().create("method", spec)
    assert method.linear
    state = method.fit(pairs)
    output = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(0))
    dose = torch.tensor([0.5, -3.0]).view(2, 1, 1)
    steered = method.edit(output, dose, output, state)
    for i, c in enumerate((0.5, -3.0)):
        for t in range(3):
            assert torch.equal(steered[i, t], output[i, t] + c * state["v"])


@pytest.mark.parametrize("spec", [spec for spec in ADDITIVE if "normalize" not in spec])
def test_vectors_are_units(spec):
    assert np.linalg.norm(fitted(spec, planted()[0])) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("spec", ADDITIVE)
def test_a_zero_contrast_is_refused(spec):
    same = noise(6, 8)
    with pytest.raises(ValueError, match="the contrast is zero"):
        load_registry().create("method", spec).fit(contrast(same, same))


@pytest.mark.parametrize("spec", ADDITIVE)
def test_one_pair_is_enough(spec):
    pairs = contrast([[3.0, 4.0, 1.0]], [[0.0, 0.0, 1.0]])
    v = fitted(spec, pairs)
    if spec != "random":
        np.testing.assert_allclose(v / np.linalg.norm(v), [0.6, 0.8, 0], atol=1e-6)


# mean_diff and the two PCAs


@pytest.mark.parametrize("seed", range(5))
def test_mean_diff_and_pcas_against_scikit_learn(seed):
    pairs, _ = planted(seed=seed)
    positive, negative = pairs.positive.double().numpy(), pairs.negative.double().numpy()
    difference = positive - negative
    mean = positive.mean(0) - negative.mean(0)
    want = {
        "mean_diff": mean / np.linalg.norm(mean),
        "pca": on_side(component(mirrored(difference)), mean),
        "pca_center": on_side(component(centred(positive, negative)), mean),
    }
    for spec, direction in want.items():
        np.testing.assert_allclose(fitted(spec, pairs), direction, atol=1e-5, err_msg=spec)


def test_pca_center_by_hand():
    """Pairs differ by 6 along the first axis and by ±2 along the second; messages vary along the third, which is gone."""
    positive = [[3.0, 1.0, 50.0], [3.0, -1.0, -70.0]]
    negative = [[-3.0, -1.0, 50.0], [-3.0, 1.0, -70.0]]
    np.testing.assert_allclose(fitted("pca_center", contrast(positive, negative)), [1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(fitted("pca_center", contrast(negative, positive)), [-1, 0, 0], atol=1e-6)


@given(seed=st.integers(0, 10**6), n=st.integers(1, 20), far=st.floats(0, 100))
def test_pca_center_is_pca_on_pairs(seed, n, far):
    """Rows centred pair by pair are ±D/2, wherever the pairs are."""
    message = far * noise(n, 6, seed)
    pairs = contrast(message + noise(n, 6, seed + 1) + 3, message + noise(n, 6, seed + 2))
    np.testing.assert_allclose(fitted("pca_center", pairs), fitted("pca", pairs), atol=1e-3)


@pytest.mark.parametrize("spec", ["mean_diff", "pca", "pca_center", "probe"])
def test_swapped_personas_turn_the_vector_round(spec):
    pairs, _ = planted()
    swapped = contrast(pairs.negative, pairs.positive)
    np.testing.assert_allclose(fitted(spec, swapped), -fitted(spec, pairs), atol=1e-4)


# probe


@pytest.mark.parametrize("seed", range(5))
def test_probe_finds_the_direction_and_its_sign(seed):
    pairs, direction = planted(n=512, d=16, seed=seed)
    assert fitted("probe", pairs) @ direction > 0.97


@given(seed=st.integers(0, 10**6), n=st.integers(2, 20), strength=st.floats(0, 3))
def test_probe_is_on_the_positive_side(seed, n, strength):
    """The loss is convex and falls from 0 towards w, and its gradient at 0 is along −mean(D)."""
    pairs, _ = planted(n, 8, seed, strength)
    assert fitted("probe", pairs) @ pairs.difference.double().mean(0).numpy() > 0


def test_probe_weighs_against_what_varies_among_messages():
    """Where messages vary along the second axis, the mean difference leans that way by chance; the probe does not."""
    message = np.outer([40.0, -40.0] * 16, [0.0, 1.0])
    positive = message + [1.0, 1.0] + 0.1 * noise(32, 2)
    v = fitted("probe", contrast(positive, message - [1.0, 1.0] + 0.1 * noise(32, 2, 1)))
    assert v[0] > 0.99
    mean = fitted("mean_diff", contrast(positive, message - [1.0, 1.0]))
    assert mean[0] == pytest.approx(0.5**0.5, abs=0.05)


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_probe_does_not_hang_on_the_blocks_scale(scale):
    pairs, _ = planted()
    louder = contrast(pairs.positive * scale, pairs.negative * scale)
    np.testing.assert_allclose(fitted("probe", louder), fitted("probe", pairs), atol=1e-4)


def test_probe_does_not_hang_on_the_basis():
    """One scale for all coordinates: a rotation of the activations rotates the vector."""
    pairs, _ = planted(d=12)
    rotation = torch.from_numpy(np.linalg.qr(noise(12, 12, 7))[0]).float()
    stretch = torch.arange(1.0, 13.0)
    plain = contrast(pairs.positive * stretch, pairs.negative * stretch)
    turned = contrast(plain.positive @ rotation, plain.negative @ rotation)
    np.testing.assert_allclose(fitted("probe", turned), fitted("probe", plain) @ rotation.numpy(), atol=1e-3)


# random


def test_random_differs_by_layer_and_seed_and_is_the_same_again():
    pairs, _ = planted(d=256)
    places = [(Site(1), 0), (Site(2), 0), (Site(1, "mlp.down_proj"), 0), (Site(1), 1), (Site(11), 0)]
    drawn = [fitted("random", dataclasses.replace(pairs, site=site, seed=seed)) for site, seed in places]
    cosines = np.stack(drawn) @ np.stack(drawn).T
    # 4 standard deviations of a cosine in 256 dimensions.
    assert np.abs(cosines - np.eye(len(places))).max() < 0.25
    again = [fitted("random", dataclasses.replace(pairs, site=site, seed=seed)) for site, seed in places]
    assert all((one == two).all() for one, two in zip(drawn, again, strict=True))


def test_random_takes_nothing_from_the_activations():
    one, other = planted(seed=0)[0], planted(n=5, seed=1)[0]
    assert (fitted("random", one) == fitted("random", other)).all()


def test_random_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    want = torch.rand(1)
    torch.manual_seed(3)
    fitted("random", planted()[0])
    assert torch.equal(torch.rand(1), want)


# topk_clusters


def bundles(k: int, d: int = 24, each: int = 10, seed: int = 0) -> tuple[Contrast, np.ndarray]:
    """Differences in k tight bundles along orthogonal directions, of very different lengths, all on mean(D)'s side."""
    axes = np.linalg.qr(noise(d, k, seed))[0].T
    length = np.random.default_rng(seed).uniform(0.1, 10, size=(k * each, 1))
    difference = length * (np.repeat(axes, each, axis=0) + 0.02 * noise(k * each, d, seed + 1))
    negative = noise(k * each, d, seed + 2)
    return contrast(negative + difference, negative), axes


@pytest.mark.parametrize("k", [1, 2, 4, 7])
def test_planted_clusters_are_found(k):
    pairs, axes = bundles(k)
    centroids = load_registry().create("method", f"topk_clusters[k={k}]").fit(pairs)["centroids"]
    assert centroids.shape == (k, 24)
    torch.testing.assert_close(centroids.norm(dim=-1), torch.ones(k))
    cosines = np.sort(centroids.double().numpy() @ axes.T, axis=0)
    assert (cosines[-1] > 0.999).all()  # every planted direction has one, with its sign


def test_a_cluster_against_the_mean_is_turned_round():
    """Nine pairs along the first axis, three along (−4, 1), whose centroid becomes (4, −1)/√17."""
    difference = np.array([[4.0, 0.0]] * 9 + [[-1.0, 0.25]] * 3)
    difference += 1e-3 * noise(12, 2)
    pairs = contrast(difference, np.zeros((12, 2)))
    centroids = load_registry().create("method", "topk_clusters[k=2]").fit(pairs)["centroids"]
    assert (centroids @ pairs.difference.mean(0) > 0).all()
    want = torch.tensor([[1.0, 0.0], [4 / 17**0.5, -1 / 17**0.5]])
    found = centroids[centroids[:, 1].argsort(descending=True)]
    torch.testing.assert_close(found, want, atol=2e-3, rtol=0)


def test_each_token_gets_the_centroid_that_it_is_nearest_to():
    method = load_registry().create("method", "topk_clusters[k=2]")
    state = {"centroids": torch.tensor([[1.0, 0.0], [0.0, 1.0]])}
    output = torch.tensor([[[2.0, 1.0], [100.0, 101.0]], [[-5.0, -4.0], [0.1, -9.0]]])
    steered = method.edit(output, torch.tensor([10.0, -1.0]).view(2, 1, 1), output, state)
    assert steered.tolist() == [
        [[12.0, 1.0], [100.0, 111.0]],
        [[-5.0, -5.0], [pytest.approx(-0.9), -9.0]],
    ]


@pytest.mark.parametrize(
    ("n", "distinct", "message"),
    [
        (3, 3, r"3 pair\(s\) with 3 distinct direction\(s\) are fewer than 4 clusters: .*, or lower k"),
        (20, 1, r"20 pair\(s\) with 1 distinct direction\(s\) are fewer than 4 clusters"),
        (20, 3, r"20 pair\(s\) with 3 distinct direction\(s\) are fewer than 4 clusters"),
    ],
)
def test_too_few_directions_for_the_clusters(n, distinct, message):
    rows = noise(distinct, 5)[np.arange(n) % distinct]
    rows = rows * np.random.default_rng(0).uniform(1, 9, size=(n, 1))  # lengths make no direction
    with pytest.raises(ValueError, match=message):
        load_registry().create("method", "topk_clusters").fit(contrast(rows, np.zeros((n, 5))))


def test_pairs_without_a_difference_are_in_no_cluster():
    pairs, axes = bundles(4)
    positive = torch.cat([pairs.positive, torch.ones(8, 24)])
    negative = torch.cat([pairs.negative, torch.ones(8, 24)])
    centroids = (
        load_registry().create("method", "topk_clusters").fit(contrast(positive, negative))["centroids"]
    )
    assert ((centroids.double().numpy() @ axes.T).max(0) > 0.999).all()


def test_clusters_need_a_contrast_and_a_number():
    same = noise(12, 5)
    with pytest.raises(ValueError, match="the contrast is zero"):
        load_registry().create("method", "topk_clusters").fit(contrast(same, same))
    with pytest.raises(IsoklError, match="'topk_clusters': k=0 is not a number of clusters"):
        load_registry().create("method", "topk_clusters[k=0]")


def test_any_seed_that_a_run_may_have_will_do():
    pairs, _ = bundles(4)
    largest = dataclasses.replace(pairs, seed=2**63 - 1)
    for spec in ("topk_clusters", "random"):
        assert load_registry().create("method", spec).fit(largest)


# cosine_gated


@pytest.mark.parametrize(("tau", "gates"), [(0.0, [1.0, 0.6, 0.6, 0.0]), (0.5, [0.5, 0.1, 0.1, 0.0])])
def test_the_gate_by_hand(tau, gates):
    method = load_registry().create("method", f"cosine_gated[tau={tau}]")
    state = method.fit(contrast([[3.0, 0.0]] * 2, [[0.0, 0.0]] * 2))
    assert state["v"].tolist() == [1.0, 0.0]
    output = torch.tensor([[[7.0, 0.0], [3.0, 4.0], [-0.3, 0.4], [0.0, 2.0]]])
    steered = method.edit(output, torch.full((1, 1, 1), 10.0), output, state)
    shift = (steered - output)[0]
    torch.testing.assert_close(shift[:, 0], 10 * torch.tensor(gates))
    assert (shift[:, 1] == 0).all()


def test_a_closed_gate_changes_nothing_and_a_zero_token_is_no_trouble():
    method = load_registry().create("method", "cosine_gated[tau=0.7]")
    state = {"v": torch.tensor([1.0, 0.0])}
    output = torch.tensor([[[0.6, 0.8], [0.0, 0.0], [-6.0, 8.0]]])
    assert torch.equal(method.edit(output, torch.full((1, 1, 1), 1e6), output, state), output)


@pytest.mark.parametrize("tau", [-0.1, 1.0, float("nan")])
def test_a_threshold_that_no_cosine_has_is_refused(tau):
    with pytest.raises(IsoklError, match="is not a threshold for"):
        load_registry().get("method", "cosine_gated").component.create({"tau": tau})


def test_gated_and_clustered_are_not_linear():
    assert not load_registry().create("method", "cosine_gated").linear
    assert not load_registry().create("method", "topk_clusters").linear
    assert not load_registry().create("method", "directional_ablation").linear


# On models: activations and logits come by another way than the engine's


@pytest.fixture(scope="module", params=list(CONFIGS))
def lm(request):
    return build(request.param)


def rows_of(lm) -> list[list[list[int]]]:
    return [[lm.chat.ids(text, prefix=persona) for text in TEXTS] for persona in PERSONAS]


@pytest.fixture(scope="module")
def recorded(lm) -> dict[Site, Contrast]:
    """What a run fits to, at all blocks but the last."""
    sites = [Site(layer) for layer in range(len(lm.blocks) - 1)]
    positive, negative = (record(lm, rows, sites) for rows in rows_of(lm))
    return {s: Contrast(positive[s], negative[s], s, lm.module(s), 0) for s in sites}


def hidden(lm, rows, layer: int) -> np.ndarray:
    """The block's output at the last token as transformers gives it, one text at a time."""
    found = []
    with torch.inference_mode():
        for row in rows:
            states = lm.model(input_ids=torch.tensor([row]), output_hidden_states=True).hidden_states
            found.append(states[layer + 1][0, -1].double().numpy())
    return np.stack(found)


def test_directions_on_recorded_activations(lm, recorded):
    """mean_diff and both PCAs, against closed forms and scikit-learn on transformers' own hidden states."""
    for site, pairs in recorded.items():
        positive, negative = (hidden(lm, rows, site.layer) for rows in rows_of(lm))
        mean = positive.mean(0) - negative.mean(0)
        want = {
            "mean_diff": mean / np.linalg.norm(mean),
            "pca": on_side(component(mirrored(positive - negative)), mean),
            "pca_center": on_side(component(centred(positive, negative)), mean),
        }
        for spec, direction in want.items():
            assert fitted(spec, pairs) @ direction >= 0.999, (spec, site)


def by_hand(lm, row: list[int], shifts) -> torch.Tensor:
    """Logits [v] at the last token with blocks' outputs replaced by hooks. shifts: {layer: y ↦ y'}, y [1, s, d]."""

    def hook(shift):
        def replace(module, args, output):
            if isinstance(output, tuple):
                return (shift(output[0]), *output[1:])
            return shift(output)

        return replace

    handles = [lm.blocks[layer].register_forward_hook(hook(shift)) for layer, shift in shifts.items()]
    try:
        with torch.inference_mode():
            return lm.model(input_ids=torch.tensor([row])).logits[0, -1].float()
    finally:
        for handle in handles:
            handle.remove()


def shift_by_hand(spec: str, state, dose: float):
    if spec == "topk_clusters[k=3]":

        def shift(y):
            cosine = torch.nn.functional.cosine_similarity(y.unsqueeze(-2), state["centroids"], dim=-1)
            return y + dose * state["centroids"][cosine.max(-1).indices]

    elif spec == "cosine_gated[tau=0.1]":

        def shift(y):
            cosine = torch.nn.functional.cosine_similarity(y, state["v"], dim=-1)
            return y + dose * torch.clamp(cosine.abs() - 0.1, min=0)[..., None] * state["v"]

    else:

        def shift(y):
            return y + dose * state["v"]

    return shift


@pytest.mark.parametrize("spec", [*ADDITIVE, "topk_clusters[k=3]", "cosine_gated[tau=0.1]"])
def test_logits_are_those_of_a_hook_written_by_hand(lm, recorded, spec):
    method = load_registry().create("method", spec)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        state = {site: method.fit(pairs) for site, pairs in recorded.items() if site.layer > 0}
    rows, doses = [lm.chat.ids(text) for text in TEXTS[:3]], [0.0, 1.5, -2.5]
    ids, mask = lm.pad_rows(rows)
    with torch.inference_mode(), attached(lm, Steering(method, state)) as edits:
        edits.arrange(torch.tensor(doses))
        found = lm.forward(ids, mask)[:, 0]
    for i, (row, dose) in enumerate(zip(rows, doses, strict=True)):
        shifts = {site.layer: shift_by_hand(spec, state[site], dose) for site in state}
        torch.testing.assert_close(found[i], by_hand(lm, row, shifts), atol=1e-3, rtol=1e-3)
        moved = (found[i] - by_hand(lm, row, {})).abs().max()
        assert moved > 0.01 if dose else moved < 1e-3
