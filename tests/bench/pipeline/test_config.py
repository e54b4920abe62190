"""What a run resolves to, and what its identity is made of."""

from __future__ import annotations

import dataclasses

import pytest

from isokl_bench.engine.layers import parse_layers
from isokl_bench.pipeline.config import PROTOCOLS, RunConfig
from isokl_bench.pipeline.plan import resolve
from isokl_bench.pipeline.splits import split_prompts
from isokl_db import config_hash
from isokl_registry import IsoklError, Prompt

BASE = RunConfig(model="tiny-qwen", method="pca")
OTHER = {  # another value of every field
    "model": "tiny-llama",
    "method": "mean_diff[normalize=false]",
    "behavior": "honesty",
    "layers": "2",
    "stat": "kl_mean",
    "target": 0.5,
    "tolerance": 0.01,
    "protocol": "published",
    "window": 10,
    "seed": 1,
    "position": "prompt",
    "fit_prompts": 32,
    "calibration_prompts": 8,
    "holdout_prompts": 8,
    "dtype": "bfloat16",
    "chat_template": "plain",
    "metrics": ("base_nll",),
    "alphas": (1.0,),
    "bidirectional": True,
    "device": "cpu",
}


def identity(registry, **changes):
    return config_hash(resolve(dataclasses.replace(BASE, **changes), registry).identity)


FIELDS = [field for field in dataclasses.fields(RunConfig) if field.name != "revision"]  # see test_hub


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f.name)
def test_every_field_is_identity_or_runtime(field, registry):
    """A new field must declare itself, and the hash must follow the declaration."""
    changed = identity(registry, **{field.name: OTHER[field.name]}) != identity(registry)
    assert changed == field.metadata["identity"]


def test_equal_requests_written_differently_are_one_run(registry):
    same = {"layers": "3", "stat": "kl_p95", "target": 1.0, "calibration_prompts": 32, "method": "pca[]"}
    assert identity(registry, **same) == identity(registry)


def test_identity_holds_plugin_versions_and_content_hashes(registry):
    found = resolve(BASE, registry).identity
    assert {
        "method_version",
        "stat_version",
        "behavior_version",
        "behavior_hash",
        "layers",
        "prompts",
    } <= set(found)
    assert set(found["model_identity"]) == {"source", "blocks", "tokenizer", "weights"}
    assert found["layers"] == [3]


@pytest.mark.parametrize("behavior", ["sentiment", "honesty", "sycophancy", "authority"])
@pytest.mark.parametrize("prompt_set", ["town", "plain"])
def test_built_in_behaviors_have_prompts_for_the_default_protocol(behavior, prompt_set, registry):
    loaded = registry.behavior(behavior).load(prompt_set)
    assert len(loaded.prompts) >= 160
    assert len({p.text for p in loaded.prompts}) == len(loaded.prompts)
    assert len(loaded.personas) >= 8
    splits = split_prompts(BASE, loaded.prompts, behavior)
    assert [len(texts) for texts in splits.texts().values()] == [64, 32, 32]
    texts = [text for part in splits.texts().values() for text in part]
    assert len(set(texts)) == len(texts)
    if behavior == "honesty":
        assert 0.4 < sum(p.first for p in loaded.prompts) / len(loaded.prompts) < 0.6


def test_seed_changes_the_split_and_nothing_else_does():
    prompts = tuple(Prompt(str(i)) for i in range(200))
    assert split_prompts(BASE, prompts, "x") == split_prompts(BASE, prompts, "x")
    assert split_prompts(BASE, prompts, "x") != split_prompts(dataclasses.replace(BASE, seed=1), prompts, "x")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "pcaa"}, "unknown method 'pcaa': did you mean 'pca'?"),
        ({"model": "tiny-qwenn"}, "unknown model 'tiny-qwenn': did you mean 'tiny-qwen'?"),
        ({"stat": "kl_p59"}, "unknown stat 'kl_p59': did you mean 'kl_p95'?"),
        ({"metrics": ("base_nl",)}, "unknown metric 'base_nl': did you mean 'base_nll'?"),
        ({"behavior": "honest"}, "unknown behavior 'honest': did you mean 'honesty'?"),
        ({"protocol": "stabel"}, "unknown protocol 'stabel': did you mean 'stable'?"),
        ({"method": "mean_diff[normalise=true]"}, "did you mean 'normalize'?"),
        ({"revision": "main"}, "model tiny-qwen has no revisions: leave --revision out"),
        ({"layers": "9"}, "layer 9 is out of range: the model has blocks 0 to 5"),
        ({"holdout_prompts": 0}, "holdout_prompts is 0: give 1 or more"),
        ({"fit_prompts": 500}, "may not overlap"),
        ({"target": -1.0}, "target is -1.0: give a number greater than 0"),
        ({"window": 0}, "window is 0: give 1 or more"),
        ({"alphas": (-1.0,)}, "alphas[0] is -1.0: give 0 or more"),
        ({"chat_template": "/no/such.jinja"}, "give 'plain' or a Jinja file"),
    ],
)
def test_wrong_values_are_named_with_a_way_out(changes, message, registry):
    with pytest.raises(IsoklError) as error:
        resolve(dataclasses.replace(BASE, **changes), registry)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_duplicate_prompts_cannot_overlap_two_sets():
    prompts = tuple(Prompt(str(i % 30)) for i in range(60))
    config = dataclasses.replace(BASE, fit_prompts=20, calibration_prompts=20, holdout_prompts=20)
    with pytest.raises(IsoklError, match="so its prompt sets overlap"):
        split_prompts(config, prompts, "x")


def test_protocols():
    assert PROTOCOLS == {"stable": (32, 32), "published": (4, 4)}


@pytest.mark.parametrize(
    ("text", "count", "want"),
    [
        ("60%", 6, (3,)),
        ("60%", 28, (16,)),
        ("100%", 6, (5,)),
        ("3", 6, (3,)),
        ("3,5", 6, (3, 5)),
        ("2-5", 6, (2, 3, 4, 5)),
        ("30%-60%", 10, (3, 4, 5, 6)),
        ("all", 3, (0, 1, 2)),
        ("-1", 6, (5,)),
        ("-3--1", 6, (3, 4, 5)),
        (" 1 , 1,0", 6, (0, 1)),
    ],
)
def test_layers(text, count, want):
    assert parse_layers(text, count) == want


@pytest.mark.parametrize("text", ["", "x", "1.5", "101%", "-9", "6", "5-2", "3-", "1,,2", "60%%"])
def test_bad_layers(text):
    with pytest.raises(IsoklError):
        parse_layers(text, 6)
