"""Random-weight models of every architecture on the engine's list, small enough to build in milliseconds."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    Phi3Config,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3_5TextConfig,
    Qwen3Config,
)

from isokl_bench.engine.lm import LanguageModel
from isokl_registry import Loaded

COMMON = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 257,
    "eos_token_id": 258,
    "pad_token_id": 256,
}
LINEAR = {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_conv_kernel_dim": 4,
    "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
}
SLIDING = {
    "sliding_window": 12,
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention", "sliding_attention"],
}
GPT2 = {
    "vocab_size": 300,
    "n_embd": 32,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 512,
    "bos_token_id": 257,
    "eos_token_id": 258,
}
CONFIGS = {
    "qwen3": lambda: Qwen3Config(**COMMON, head_dim=8),
    "qwen3.5": lambda: Qwen3_5TextConfig(**COMMON, head_dim=8, **LINEAR),
    "llama": lambda: LlamaConfig(**COMMON),
    "gemma3": lambda: Gemma3TextConfig(**COMMON, head_dim=8, query_pre_attn_scalar=8, **SLIDING),
    "mistral": lambda: MistralConfig(**COMMON, sliding_window=12),
    "olmo2": lambda: Olmo2Config(**COMMON),
    "gpt2": lambda: GPT2Config(**GPT2),
    "phi3": lambda: Phi3Config(**COMMON),
}
TEMPLATE = (
    "<s>{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


def byte_tokenizer(template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """One token per byte, then pad, bos and eos."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet)} | {"<pad>": 256, "<s>": 257, "</s>": 258}
    raw = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    fast.chat_template = template
    return fast


def build(
    name: str, *, scale: float = 4.0, tokenizer: PreTrainedTokenizerFast | None = None
) -> LanguageModel:
    """The small model of an architecture on the list."""
    return random_model(CONFIGS[name](), scale, tokenizer)


def random_model(
    config: PretrainedConfig, scale: float = 4.0, tokenizer: PreTrainedTokenizerFast | None = None
) -> LanguageModel:
    """A model whose weights are scaled up, so that greedy text has few near-ties and steering moves it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(scale)
    return LanguageModel(Loaded(model, tokenizer or byte_tokenizer()))
