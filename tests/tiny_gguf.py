"""A small Llama as a GGUF file, written the way llama.cpp's converter writes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.architectures import TEMPLATE

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 512}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2}
MORE = ("<pad>", "<s>", "</s>", "Ġt")
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def tiny_llama() -> LlamaForCausalLM:
    """Random weights, always the same; one token per byte, then <pad>, <s>, </s> and ' t'."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260, **SIZES, **HEADS, bos_token_id=257, eos_token_id=258, tie_word_embeddings=False
    )
    return LlamaForCausalLM(config).eval()


def write_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    name: str = "Tiny Llama",
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    file_type: gguf.LlamaFileType = gguf.LlamaFileType.ALL_F32,
    template: str | None = TEMPLATE,
    add_bos: bool = False,
    extra: dict[str, int] | None = None,
    without: str = "",
) -> Path:
    """The model as a file. kind: of the matrices. extra: keys with whole numbers. without: a tensor to leave out."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_block_count(SIZES["num_hidden_layers"])
    writer.add_context_length(SIZES["max_position_embeddings"])
    writer.add_embedding_length(SIZES["hidden_size"])
    writer.add_feed_forward_length(SIZES["intermediate_size"])
    writer.add_head_count(HEADS["num_attention_heads"])
    writer.add_head_count_kv(HEADS["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)
    for key, value in (extra or {}).items():
        writer.add_uint32(key, value)
    _add_tokenizer(writer, template, add_bos)
    for tensor, weights in tensors().items():
        if tensor != without:
            matrix = weights.ndim > 1
            data = gguf.quantize(weights, kind) if matrix else weights
            writer.add_tensor(tensor, data, raw_dtype=kind if matrix else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors() -> dict[str, np.ndarray[Any, Any]]:
    """The weights under GGUF's names; query and key rows in llama.cpp's order."""
    found = {}
    for name, weight in tiny_llama().state_dict().items():
        array = weight.float().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = HEADS["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        found[_gguf_name(name)] = np.ascontiguousarray(array)
    return found


def _gguf_name(name: str) -> str:
    top = {
        "model.embed_tokens.weight": "token_embd",
        "model.norm.weight": "output_norm",
        "lm_head.weight": "output",
    }
    if name in top:
        return f"{top[name]}.weight"
    _, _, block, rest = name.split(".", 3)
    return f"blk.{block}.{NAMES[rest.removesuffix('.weight')]}.weight"


def _add_tokenizer(writer: gguf.GGUFWriter, template: str | None, add_bos: bool) -> None:
    from tokenizers import pre_tokenizers

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*sorted(pre_tokenizers.ByteLevel.alphabet()), *MORE])
    writer.add_token_types(
        [gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL]
    )
    writer.add_token_merges(["Ġ t"])
    writer.add_pad_token_id(256)
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    writer.add_add_bos_token(add_bos)
    if template is not None:
        writer.add_chat_template(template)
