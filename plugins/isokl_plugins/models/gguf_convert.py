"""From a GGUF file to a folder as transformers saves it, by transformers' own reader."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, modeling_gguf_pytorch_utils
from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
from transformers.utils import logging

from isokl_plugins.models.folder import check_whole
from isokl_plugins.models.gguf_header import Header
from isokl_registry import IsoklError

NO_DECODERS = {"general", "tokenizer", "t5", "umt5"}


def convert(file: Path, header: Header, dtype: torch.dtype, what: str) -> None:
    """Put the dequantised model and its tokenizer in the place of the file. what: how errors call the file.

    Raises IsoklError when transformers cannot read it; what a full disk raises goes through."""
    _check_architecture(what, header.architecture)
    try:
        with _quiet():
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            model, info = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=dtype, output_loading_info=True
            )
    except Exception as error:  # a third party's file: whatever is wrong with it is one line here
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if "ignore_mismatched_sizes" in why:  # transformers' own words point to a report that is silenced
            why = "its weights have other shapes than its header says"
        raise IsoklError(f"{what} cannot be converted: {why}") from error
    check_whole(info, what)
    if (blocks := model.config.num_hidden_layers) != header.blocks:
        raise IsoklError(f"{what} has {header.blocks} blocks, of which transformers reads {blocks}")
    file.unlink()
    _plain(model).save_pretrained(file.parent)
    tokenizer.save_pretrained(file.parent)


def readable() -> list[str]:
    """The architectures that transformers reads from GGUF and that write text."""
    known = {*modeling_gguf_pytorch_utils.GGUF_SUPPORTED_ARCHITECTURES, *GGUF_CONFIG_ARCHS}
    return sorted(known - NO_DECODERS)


def _check_architecture(what: str, architecture: str) -> None:
    def plain(
        name: str,
    ) -> str:  # the file says qwen2moe and gpt-oss where transformers says qwen2_moe and gpt_oss
        return name.replace("-", "").replace("_", "")

    if plain(architecture) not in map(plain, readable()):
        raise IsoklError(
            f"{what} has the architecture {architecture!r:.60}, which transformers {transformers.__version__} does "
            f"not read from GGUF; it reads {', '.join(readable())}"
        )


def _plain(model: Any) -> Any:
    """Without the traces of the quantisation, with which it would not be saved."""
    vars(model.config).pop("quantization_config", None)
    model.is_quantized = False
    vars(model).pop("hf_quantizer", None)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' messages and bars; the one over the tensors takes no setting."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    bar = modeling_gguf_pytorch_utils.tqdm
    modeling_gguf_pytorch_utils.tqdm = lambda tensors, **_: tensors
    try:
        yield
    finally:
        modeling_gguf_pytorch_utils.tqdm = bar
