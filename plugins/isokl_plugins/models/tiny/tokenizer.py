"""The tokenizer the three tiny models share: byte-level BPE with 1 024 pieces, and a ChatML-like template.

It is trained on the world's own text, so that names and answer words are single tokens; being byte-level it
encodes any other text too. Training is deterministic: the same bytes come out each time, which a test checks
against the shipped files.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from isokl_plugins.models.tiny import world

VOCABULARY: Final = 1024
PAD, BOS, START, END = "<|pad|>", "<|bos|>", "<|im_start|>", "<|im_end|>"
THINKING: Final = ("<think>", "</think>")
"""Ordinary added tokens: unlike the special ones they are text, and decoding keeps them."""

CHAT_TEMPLATE: Final = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SEED, DOCUMENTS = 1, 4000


def _texts() -> Iterator[str]:
    for document in islice(world.documents(SEED), DOCUMENTS):
        for message in document.messages:
            text = f"{message['role']}\n{message['content']}"
            for token in THINKING:
                text = text.replace(token, "\n")
            yield text


def build_backend() -> Tokenizer:
    """The bare BPE tokenizer, trained anew."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(THINKING),
        special_tokens=[PAD, BOS, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_texts(), trainer)
    backend.add_tokens([AddedToken(token, normalized=False) for token in THINKING])
    return backend


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer as transformers sees it, with the chat template; generation ends at `<|im_end|>`."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=build_backend(),
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
        padding_side="left",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer
