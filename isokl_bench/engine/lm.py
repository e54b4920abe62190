"""One view of every causal language model: blocks, Linears, ids, and a forward pass over padded rows."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isokl_bench.engine.cache import new_cache
from isokl_bench.engine.chat import Chat
from isokl_bench.engine.memory import machine_memory, processors
from isokl_bench.engine.tree_mask import BranchedRows
from isokl_registry import IsoklError, Loaded, Site

BLOCK_PATHS = (
    "model.layers",
    "transformer.h",
    "gpt_neox.layers",
    "model.decoder.layers",
    "model.language_model.layers",
)


class LanguageModel:
    """A loaded model with what the engine needs to know of it. Rows are always padded on the left.

    Args:
        loaded: model and tokenizer, as a model plugin gives them.
        chat_template: see Chat.

    Raises:
        IsoklError: when its transformer blocks cannot be found, or the chat template cannot be rendered.
    """

    def __init__(self, loaded: Loaded, chat_template: str | None = None) -> None:
        self.model = loaded.model
        self.tokenizer = loaded.tokenizer
        self.chat = Chat(loaded.tokenizer, chat_template)
        self.device = next(self.model.parameters()).device
        self.dtype = next(self.model.parameters()).dtype
        self.config = self.model.config.get_text_config(decoder=True)
        self.vocab = int(self.config.vocab_size)
        self.blocks = find_blocks(self.model, int(self.config.num_hidden_layers))
        self.eos = self._eos()
        self.pad = self.tokenizer.pad_token_id
        self.notes = self._notes()
        self.row_limit = sys.maxsize  # lowered when memory runs out
        self.notify: Callable[[str], None] = lambda line: None  # told when something was done another way
        self._takes_positions = "position_ids" in inspect.signature(self.model.forward).parameters

    @property
    def croppable(self) -> bool:
        """Whether a cache can be cut at any token: keys and values per position, no recurrent state."""
        return self._attention_kinds() <= {"full_attention", "sliding_attention"}

    @property
    def takes_tree_masks(self) -> bool:
        """Whether every token can be told which others it sees, and its position (see `forward_branched`)."""
        takes_masks = getattr(self.model, "_supports_attention_backend", False)
        kind = getattr(self.config, "_attn_implementation", None)
        return bool(self.croppable and self._takes_positions and takes_masks and kind in ("sdpa", "eager"))

    def new_cache(self) -> Any:
        """An empty cache of the kind this model needs."""
        return new_cache(self.config, croppable=self.croppable)

    def module(self, site: Site) -> nn.Module:
        """The block or the Linear at a site.

        Raises:
            IsoklError: when the block has no such Linear.
        """
        block = self.blocks[site.layer]
        if not site.linear:
            return block
        try:
            return block.get_submodule(site.linear)
        except AttributeError:
            raise self._no_linear(site.layer, site.linear) from None

    def sites(self, layers: Sequence[int], linears: Sequence[str]) -> list[Site]:
        """The sites of a method: its `linears` in every block, or the blocks' outputs when it names none.

        Args:
            layers: block indices.
            linears: names inside a block; an entry "a|b" is the first of its alternatives that the block has.

        Raises:
            IsoklError: when a block has none of an entry's alternatives.
        """
        return [
            Site(layer, self._linear(layer, entry) if entry else "")
            for layer in layers
            for entry in linears or ("",)
        ]

    def _linear(self, layer: int, entry: str) -> str:
        names = {name for name, _ in self.blocks[layer].named_modules()}
        for alternative in entry.split("|"):
            if alternative in names:
                return alternative
        raise self._no_linear(layer, entry)

    def _no_linear(self, layer: int, entry: str) -> IsoklError:
        has = [
            name
            for name, module in self.blocks[layer].named_modules()
            if hasattr(module, "weight") and "norm" not in name
        ]
        wanted = " or ".join(map(repr, entry.split("|")))
        return IsoklError(f"block {layer} has no module {wanted}: it has {', '.join(has)}")

    def pad_rows(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """ids and mask, both [rows, longest], padded on the left."""
        longest = max(map(len, rows))
        filler = self.pad if self.pad is not None else 0
        ids = torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows], device=self.device)
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=self.device)
        return ids, mask

    def forward(self, ids: Tensor, mask: Tensor, cache: Any = None, keep: int = 1) -> Tensor:
        """One pass over rows, or over what comes after their caches.

        Args:
            ids: [b, new] token ids.
            mask: [b, cached + new], 1 where there is a token.
            cache: what it extends, see `new_cache`; None to keep nothing.
            keep: at how many last positions logits are wanted.

        Returns:
            Logits [b, keep, v] in the model's dtype.
        """
        positions = (mask.cumsum(-1) - 1).clamp_min(0)[:, -ids.shape[1] :]
        extra = {"position_ids": positions} if self._takes_positions else {}
        out = self.model(
            input_ids=ids,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=cache is not None,
            logits_to_keep=keep or torch.empty(0, dtype=torch.long, device=self.device),  # 0 would mean all
            **extra,
        )
        logits: Tensor = out.logits
        return logits

    def forward_branched(self, rows: BranchedRows, cache: Any) -> Tensor:
        """Logits [b, slots, v] float32 after the last token of every branch."""
        out = self.model(
            input_ids=rows.ids,
            attention_mask=self._masks(rows),
            position_ids=rows.position,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=rows.ends,
        )
        logits: Tensor = out.logits.float()
        return logits

    def _masks(self, rows: BranchedRows) -> Any:
        """What to add to the attention scores [b, 1, s, keys], by kind of layer if there are several."""
        masks = {}
        for kind in self._attention_kinds():
            sees = rows.sees
            if kind == "sliding_attention":
                first = rows.position - self.config.sliding_window + 1
                sees = sees & (rows.key[:, None] >= first[..., None])
            hidden = torch.full(sees.shape, torch.finfo(self.dtype).min, dtype=self.dtype, device=self.device)
            masks[kind] = hidden.masked_fill_(sees, 0.0)[:, None]
        return masks if len(masks) > 1 else next(iter(masks.values()))

    def _attention_kinds(self) -> set[str]:
        slides = getattr(self.config, "sliding_window", None)
        return set(getattr(self.config, "layer_types", None) or ()) or {
            "sliding_attention" if slides else "full_attention"
        }

    def max_rows(self, length: int, keep: int = 1, read: int = 1, *, branched: bool = False) -> int:
        """How many rows fit into a safe part of the memory: batches, never a result, follow it.

        Args:
            length: tokens of a row.
            keep: at how many of them there are logits.
            read: how many of them are read in one pass.
            branched: whether the masks are our own, for texts and for rows.
        """
        cache = 2 * self.cache_bytes(length)  # growing a cache copies it
        masks = 1 + 2 * len(self._attention_kinds()) if branched else 1
        mask = read * length * (1 + masks * self.dtype.itemsize)  # as truth values, and as numbers
        return max(1, int(self.free_memory() // (cache + mask + (4 + 2 * keep) * self.vocab * 4)))

    def cache_bytes(self, length: int) -> int:
        """The size of a row's keys and values."""
        heads = getattr(self.config, "num_key_value_heads", None) or self.config.num_attention_heads
        width = (
            getattr(self.config, "head_dim", None)
            or self.config.hidden_size // self.config.num_attention_heads
        )
        return int(2 * len(self.blocks) * heads * width * length * self.dtype.itemsize)

    def free_memory(self) -> float:
        """Bytes that are safe to use."""
        if self.device.type == "cuda":
            return 0.7 * torch.cuda.mem_get_info(self.device)[0]
        # Of all there is, not of what happens to be free: the same run should be batched alike, to come out
        # the same to the last bit. Processes that share the processor share the memory.
        return 0.5 * machine_memory() * min(1.0, torch.get_num_threads() / processors())

    def _eos(self) -> tuple[int, ...]:
        generation = getattr(self.model, "generation_config", None)
        found: set[int] = set()
        for value in (getattr(generation, "eos_token_id", None), self.tokenizer.eos_token_id):
            found.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
        return tuple(sorted(found))

    def _notes(self) -> list[str]:
        notes = []
        if self.pad is None:
            notes.append("the tokenizer has no pad token: padding is masked, so token 0 fills the rows")
        if not self.chat.system_role:
            notes.append(
                "the chat template takes no system message: personas go in front of the user message"
            )
        if (bos := self.tokenizer.bos_token_id) is not None:
            adds = self.tokenizer.encode("hello")[:1] == [bos]
            if adds and bos not in self.chat.ids("hello")[:1]:
                notes.append(
                    f"the tokenizer begins every text with {self.tokenizer.bos_token}, and the chat template "
                    "does not: many models are much worse without; --chat-template FILE takes one that "
                    "begins with {{ bos_token }}"
                )
        return notes


def find_blocks(model: nn.Module, count: int) -> nn.ModuleList:
    """The list of transformer blocks: a known path, else the only ModuleList of the right length.

    Raises:
        IsoklError: when there is none, or no telling, with what was looked for.
    """
    for path in BLOCK_PATHS:
        try:
            found = model.get_submodule(path)
        except AttributeError:
            continue
        if isinstance(found, nn.ModuleList) and len(found) == count:
            return found
    lists = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.ModuleList)]
    fitting = [(name, module) for name, module in lists if len(module) == count]
    if len(fitting) == 1:
        return fitting[0][1]
    seen = ", ".join(f"{name} ({len(module)})" for name, module in lists) or "none"
    raise IsoklError(
        f"cannot find the transformer blocks of {type(model).__name__}: looked for a ModuleList of {count} "
        f"at {', '.join(BLOCK_PATHS)}, then anywhere; its ModuleLists: {seen}"
    )
