"""Laws of a model plugin: what the config hash and the engine rely on."""

from __future__ import annotations

import json
from typing import Any
from unittest import mock

from isokl_registry.conformance.law import Broken, require, skip
from isokl_registry.errors import IsoklError
from isokl_registry.model import ModelPlugin


def _identity(model: ModelPlugin) -> dict[str, Any]:
    try:
        return model.identity()
    except IsoklError as error:  # the contract's word for a model that cannot be reached
        skip(str(error))


def described(model: ModelPlugin) -> None:
    """It is described in one line, and it names a prompt set."""
    text = model.description.strip()
    require(text and "\n" not in text, f"the description is {text!r}: write one line")
    require(
        isinstance(model.prompt_set, str) and model.prompt_set,
        f"the prompt set is {model.prompt_set!r}, not a name",
    )


def identity(model: ModelPlugin) -> None:
    """Its identity is JSON with a `source` and a number of `blocks`."""
    found = _identity(model)
    try:
        again = json.loads(json.dumps(found, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise Broken(f"the identity is not JSON: {error}") from None
    require(again == found, f"the identity changes when it is written as JSON: {again}")
    source, blocks = found.get("source"), found.get("blocks")
    require(isinstance(source, str) and source, f"the identity's source is {source!r}, not a name")
    require(
        type(blocks) is int and blocks > 0, f"the identity's blocks are {blocks!r}, not a number of blocks"
    )


def stable(model: ModelPlugin) -> None:
    """Its identity is the same each time."""
    require(_identity(model) == _identity(model), "the identity differs the second time")


def light(model: ModelPlugin) -> None:
    """Its identity loads no weights."""
    with mock.patch.object(type(model), "load", side_effect=Broken("identity() calls load()")):
        _identity(model)


def loads(model: ModelPlugin) -> None:
    """It loads in eval mode, with the dtype that was asked for and the blocks that it stated."""
    import torch

    blocks = _identity(model)["blocks"]
    loaded = model.load(device=torch.device("cpu"), dtype=torch.bfloat16)
    require(not loaded.model.training, "the model is not in eval mode: call eval()")
    wrong = [
        n for n, p in loaded.model.named_parameters() if (p.dtype, p.device.type) != (torch.bfloat16, "cpu")
    ]
    require(not wrong, f"{len(wrong)} weights are not bfloat16 on cpu, {wrong[:1]} among them")
    found = loaded.model.config.get_text_config(decoder=True).num_hidden_layers
    require(found == blocks, f"the model has {found} blocks, and its identity says {blocks}")
    ids = loaded.tokenizer("Hello", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        require(loaded.model(input_ids=ids).logits.isfinite().all(), "its logits are not finite")
