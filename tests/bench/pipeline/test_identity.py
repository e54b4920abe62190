"""Config hashes of runs that are stored somewhere: they may change only with a new hash version."""

from __future__ import annotations

import pytest

from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.plan import resolve
from isokl_db import HASH_VERSION, config_hash

BEHAVIOR = """question = "{prompt} Answer yes or no."
prompts = ["Shall we go?", "Shall we wait?", "Shall we run?", "Shall we jump?", "Shall we stop?", "Shall we sing?", \
"Shall we sleep?", "Shall we eat?"]
[answer]
prefill = "Answer:"
positive = [" yes"]
negative = [" no"]
[[personas]]
positive = "You are quick."
negative = "You are slow."
"""
# What is asked for beside tiny-qwen and pca, and its hash, by the code that had no validated configuration yet.
PINNED = {
    "defaults": ({}, "64bed5104e1240629558362545eae95f7c932710ae84600c3178ebe0659414a5"),
    "model": ({"model": "tiny-llama"}, "4793ae02c09d621505dcc2db11826585ac63cc92b5f83fb174fcfe065de39470"),
    "method": ({"method": "mean_diff"}, "f35c5d1aedff8e509c0be19026391ca3a59b3ae618ac5eb2c49591449220fdc5"),
    "parameters": (
        {"method": "mean_diff[normalize=false]"},
        "96fe40285b998160aaaebdbb24271081a21ff332fc36c7254e7cce0ecc0befb4",
    ),
    "prompt": (
        {"method": "prompt", "layers": "2-4"},
        "3f10f1882224d3ae6cdf5f926f732891a52494d346d4e6a5abf3b8796bdac36c",
    ),
    "behavior": ({"behavior": "honesty"}, "ee47dbb78cfaf33faf6664fbc9142ebde983b77f6e2181b76998f999b2b03be5"),
    "behavior file": (
        {"behavior": "haste.toml", "fit_prompts": 3, "calibration_prompts": 2, "holdout_prompts": 2},
        "dca3855a11d136993d09c46c0b6609130ac4c1319ab4164b475a031033a3e392",
    ),
    "layers": ({"layers": "30%-60%,-1"}, "2726b2cb9dd4ffd4abbcd9194d45835e97fe8b717fdf9f7a376afa56e631bbe8"),
    "stat": ({"stat": "kl_mean"}, "5bd769f060a3d73eac623a5717c33fe265fd30c6b5376cdf3f3c93077b267820"),
    "target": ({"target": 2}, "84314358a56d1318d9e2d46fa8dd59026f92517640c79713e61789ad7f25f3f4"),
    "tolerance": ({"tolerance": 1}, "ae18048ca8c1fbcdf9a61c0c91b3e4e981b35877a11039a29058c14645e33fc3"),
    "protocol": (
        {"protocol": "published"},
        "a43375ec36e49d533593c4c67fa4d6705b949eb95d1d206128dd75e7b5a178ac",
    ),
    "window": ({"window": 50}, "3f61f573517dc55061b774085f39f469ed17e866bf5878aaba5e3cf1cabb1a06"),
    "seed": (
        {"seed": 9223372036854775807},
        "8cd33b8fb81ae6d2d40824a743ea990b1083c5a17e01ecbcf65ca068ca490242",
    ),
    "position": ({"position": "prompt"}, "ae6b1c2d7aef3182b51d4be5ab97209246123d0439d9ba71a25ca9f672ae315f"),
    "prompts": (
        {"fit_prompts": 32, "calibration_prompts": 8, "holdout_prompts": 7},
        "5c1d5108c527339a75b2fe2b833575f6a81a7cb8e7bd9d27ddd234428be3fe75",
    ),
    "dtype": ({"dtype": "bfloat16"}, "7f20f6151dc9aa6b261dd1b41c8ec279761bb1689799617b73ca4dbf301e02cd"),
    "plain template": (
        {"chat_template": "plain"},
        "0200b91b6f77624e660625abdc3bcfd1f215122b09e7aa6b998f1ab7756811b9",
    ),
    "template file": (
        {"chat_template": "form.jinja"},
        "66b4a42bd0eef1ebfde3d31e3bc8e86cec5d6b9c0f0dfa6372c06233769a0a91",
    ),
    "runtime": (
        {"metrics": ("base_nll",), "alphas": (1,), "bidirectional": True, "device": "cpu"},
        "64bed5104e1240629558362545eae95f7c932710ae84600c3178ebe0659414a5",
    ),
}


def test_the_pins_are_of_this_hash_version():
    assert HASH_VERSION == 1


@pytest.mark.parametrize("name", PINNED)
def test_a_configuration_keeps_its_hash(name, registry, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "haste.toml").write_text(BEHAVIOR.replace("\\\n", ""))
    (tmp_path / "form.jinja").write_text("{{ messages[0]['content'] }}")
    asked, pin = PINNED[name]
    config = RunConfig(**{"model": "tiny-qwen", "method": "pca"} | asked)
    assert config_hash(resolve(config, registry).identity) == pin
