"""Train the three tiny models from nothing: `python -m isokl_plugins.models.tiny.train all`.

Text comes from `world.documents`, one document per row and never two, so that position 0 is always the
start of a document. Batches hold rows of similar length. Arithmetic is bfloat16 over float32 weights,
attention is written out (on a CPU twice as fast as the fused kernel's backward pass), matrices are
trained by Muon, the rest by AdamW.
"""

from __future__ import annotations

import json
import platform
import random
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Final

import click
import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from isokl_plugins.models.tiny import world
from isokl_plugins.models.tiny.tokenizer import VOCABULARY, build_tokenizer

WEIGHTS: Final = Path(__file__).parent / "weights"
NAMES: Final = ("tiny-qwen", "tiny-llama", "tiny-gemma")
CHUNK: Final = 128
LOSS_WEIGHT: Final[dict[world.Part, float]] = {"prompt": 0.1, "reply": 1.0, "forced": 0.0, "answer": 3.0}
console = Console()


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the weights, together with the seed."""

    steps: int = 2800
    seed: int = 0
    batch_tokens: int = 6144
    longest: int = 512
    muon_lr: float = 0.02
    adam_lr: float = 3e-3
    weight_decay: float = 0.01
    warmup: int = 100
    clip: float = 1.0
    bfloat16: bool = True
    hasty: float = 0.0


REFINE: Final = Recipe(steps=1200, seed=1, muon_lr=0.015, adam_lr=2e-3, warmup=30, hasty=0.7)
"""A second round over saved weights, mostly fact questions that must be answered with no time to think."""

CHECK: Final = Recipe(steps=8, batch_tokens=1024, longest=128, warmup=1, bfloat16=False)
"""A few float32 steps whose losses are recorded, for a test to repeat on any machine."""


# --- models ---------------------------------------------------------------------------------------

_SHAPE: Final[dict[str, Any]] = {
    **{"vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 6},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 4096},
    **{"tie_word_embeddings": True, "initializer_range": 0.05},
}


def build_model(name: str, tokenizer: PreTrainedTokenizerFast, seed: int) -> PreTrainedModel:
    """A freshly initialised model. Raises KeyError for a name that is not in NAMES."""
    shape = _SHAPE | {
        f"{token}_token_id": getattr(tokenizer, f"{token}_token_id") for token in ("bos", "eos", "pad")
    }
    layers = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    torch.manual_seed(seed)
    config: PreTrainedConfig
    model: PreTrainedModel
    match name:
        case "tiny-qwen":
            model = Qwen3ForCausalLM(config := Qwen3Config(**shape))
        case "tiny-llama":
            model = LlamaForCausalLM(config := LlamaConfig(**shape))
        case "tiny-gemma":
            config = Gemma3TextConfig(
                **shape, query_pre_attn_scalar=32, sliding_window=96, layer_types=layers
            )
            model = Gemma3ForCausalLM(config)
        case _:
            raise KeyError(name)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=config.pad_token_id
    )
    return model


def written_out_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention of right-padded rows by plain matrix products.

    The query is [b, h, s, d], key and value are [b, groups, s, d]. Queries go in chunks that see only
    keys they may attend to, which saves a third of the work on long rows.
    """
    b, h, s, d = query.shape
    groups = key.shape[1]
    flat_query = (query * scaling).reshape(b * groups, h // groups, s, d)
    flat_key, flat_value = key.reshape(b * groups, s, d), value.reshape(b * groups, s, d)
    mixed = []
    for start in range(0, s, CHUNK):
        end = min(start + CHUNK, s)
        first = max(0, start + 1 - sliding_window) if sliding_window else 0
        scores = torch.bmm(flat_query[:, :, start:end].flatten(1, 2), flat_key[:, first:end].transpose(1, 2))
        scores = scores.view(b * groups, -1, end - start, end - first) + _hidden(
            start, end, first, sliding_window
        )
        probabilities = torch.softmax(scores, -1).to(flat_value.dtype).flatten(1, 2)
        mixed.append(torch.bmm(probabilities, flat_value[:, first:end]).view(b, h, end - start, d))
    return torch.cat(mixed, 2).transpose(1, 2).contiguous(), None


def _hidden(start: int, end: int, first: int, window: int | None) -> Tensor:
    """0 where a query of [start, end) sees a key of [first, end), minus infinity elsewhere."""
    distance = torch.arange(start, end)[:, None] - torch.arange(first, end)
    hidden = (distance < 0) | (distance >= (window or end))
    return torch.zeros(distance.shape, dtype=torch.bfloat16).masked_fill(hidden, float("-inf"))


ALL_ATTENTION_FUNCTIONS.register("written_out", written_out_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register("written_out", lambda *_, **__: None)


# --- batches --------------------------------------------------------------------------------------

Row = tuple[list[int], list[float]]


def encode(document: world.Document, tokenizer: PreTrainedTokenizerFast) -> Row:
    """Token ids of a document, and each token's weight in the loss."""
    ids, weights = [tokenizer.bos_token_id], [0.0]
    for text, part in document.parts():
        piece = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
        ids += piece
        weights += [LOSS_WEIGHT[part]] * len(piece)
    return ids, weights


def batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids, weights), both [b, s], right-padded, rows of one batch of similar length."""
    rng = random.Random(f"batches {recipe.seed}")
    rows = (encode(document, tokenizer) for document in world.documents(recipe.seed, recipe.hasty))
    rows = (row for row in rows if len(row[0]) <= recipe.longest)
    while True:
        pool = sorted(islice(rows, recipe.batch_tokens // 4), key=lambda row: (len(row[0]), rng.random()))
        groups: list[list[Row]] = [[]]
        for row in pool:
            if (len(groups[-1]) + 1) * len(row[0]) > recipe.batch_tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from (_pad(group, tokenizer.pad_token_id) for group in groups)


def _pad(rows: list[Row], pad: int) -> tuple[Tensor, Tensor]:
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.full((len(rows), longest), pad)
    weights = torch.zeros(len(rows), longest)
    for number, (row_ids, row_weights) in enumerate(rows):
        ids[number, : len(row_ids)] = torch.tensor(row_ids)
        weights[number, : len(row_ids)] = torch.tensor(row_weights)
    return ids, weights


# --- training -------------------------------------------------------------------------------------


def _optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=recipe.weight_decay, momentum=0.95),
        torch.optim.AdamW(rest, lr=recipe.adam_lr, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]


def _loss(model: PreTrainedModel, ids: Tensor, weights: Tensor, bfloat16: bool) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    each = functional.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    wanted = weights[:, 1:].flatten()
    return (each * wanted).sum() / wanted.sum()


def steps(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe
) -> Iterator[tuple[float, int]]:
    """Train in place; yields each step's loss and number of tokens. Linear warm-up and linear decay to 0."""
    model.set_attn_implementation("written_out")
    model.train()
    optimizers = _optimizers(model, recipe)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min((step + 1) / recipe.warmup, 1 - step / recipe.steps)
        )
        for optimizer in optimizers
    ]
    for ids, weights in islice(batches(recipe, tokenizer), recipe.steps):
        loss = _loss(model, ids, weights, recipe.bfloat16)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        yield loss.item(), ids.numel()


def check_losses(name: str, count: int = CHECK.steps) -> list[float]:
    """The first losses of the float32 check run, to be compared with the recorded ones."""
    tokenizer = build_tokenizer()
    model = build_model(name, tokenizer, CHECK.seed)
    return [loss for loss, _ in islice(steps(model, tokenizer, CHECK), count)]


def train(name: str, recipe: Recipe, out: Path) -> None:
    """Train one model and put it into `out/name`, replacing what was there only when all is written."""
    check = check_losses(name)
    tokenizer = build_tokenizer()
    model = build_model(name, tokenizer, recipe.seed)
    record = {
        "model": name,
        "parameters": model.num_parameters(),
        "loss_weights": LOSS_WEIGHT,
        "software": {"python": platform.python_version()}
        | {package: version(package) for package in ("torch", "transformers", "tokenizers")},
        **_run(name, model, tokenizer, recipe),
        "check": {"recipe": asdict(CHECK), "loss": check},
    }
    _save(model, tokenizer, record, out / name)


def refine(name: str, recipe: Recipe, out: Path) -> None:
    """Train on from the weights in `out/name`, and add the round to their record."""
    record = json.loads((out / name / "training.json").read_text())
    tokenizer = build_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(out / name, dtype=torch.float32)
    _save(model, tokenizer, record | {"refined": _run(name, model, tokenizer, recipe)}, out / name)


def _run(
    name: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe
) -> dict[str, Any]:
    """Train in place; what to record of it."""
    begin = time.monotonic()
    losses, tokens = _watched(name, steps(model, tokenizer, recipe), recipe.steps)
    return {
        "seed": recipe.seed,
        "tokens": tokens,
        "steps": recipe.steps,
        "seconds": round(time.monotonic() - begin, 1),
        "threads": torch.get_num_threads(),
        "recipe": asdict(recipe),
        "loss": losses,
    }


def _watched(name: str, run: Iterator[tuple[float, int]], total: int) -> tuple[dict[int, float], int]:
    """Walk through a run and show it: the first eight losses, then means of a hundred; and all tokens."""
    losses: dict[int, float] = {}
    recent: list[float] = []
    tokens, begin = 0, time.monotonic()
    with _progress() as progress:
        task = progress.add_task(name, total=total, loss=float("nan"))
        for step, (loss, count) in enumerate(run, 1):
            tokens += count
            recent.append(loss)
            progress.update(task, advance=1, loss=loss)
            if step <= 8 or step % 100 == 0 or step == total:
                losses[step] = round(sum(recent) / len(recent), 5)
                recent = []
                speed = tokens / (time.monotonic() - begin)
                if not console.is_terminal:
                    console.print(f"{name} step {step}/{total} loss {losses[step]:.4f} {speed:.0f} tokens/s")
    return losses, tokens


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}"),
    )
    return Progress(
        *columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, disable=not console.is_terminal
    )


def _save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, record: dict[str, Any], folder: Path
) -> None:
    fresh, stale = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for leftover in (fresh, stale):
        shutil.rmtree(leftover, ignore_errors=True)
    fresh.mkdir(parents=True)
    model.half().eval().save_pretrained(fresh)
    tokenizer.save_pretrained(fresh)
    (fresh / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    if folder.exists():
        folder.rename(stale)
    fresh.rename(folder)
    shutil.rmtree(stale, ignore_errors=True)


@click.command()
@click.argument("name", type=click.Choice([*NAMES, "all"]), default="all")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=WEIGHTS,
    help="Folder that receives one folder per model.",
)
@click.option("--steps", type=click.IntRange(1), help="Default: as in the recipe.")
@click.option("--seed", type=int, help="Default: as in the recipe.")
@click.option(
    "--refine", "again", is_flag=True, help="Train on from the weights in OUT with the second recipe."
)
def main(name: str, out: Path, steps: int | None, seed: int | None, again: bool) -> None:
    """Train one of the tiny models, or all of them, and write weights, tokenizer and training.json."""
    recipe = REFINE if again else Recipe()
    recipe = replace(recipe, steps=steps or recipe.steps, seed=recipe.seed if seed is None else seed)
    recipe = replace(recipe, warmup=min(recipe.warmup, recipe.steps))
    for each in NAMES if name == "all" else (name,):
        (refine if again else train)(each, recipe, out)


if __name__ == "__main__":
    main()
