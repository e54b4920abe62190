"""A store as thousands of runs leave it, filled with SQL.

Every run has its config, calibration and the 73 summaries that are one number each. What Figure 1 draws, 25
440 measurements and 750 summaries by position, only the runs have that it may draw: for all of them it would
be 25 GB.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import Any

from isokl_db import Store, config_hash

MODELS = ("tiny-gemma", "tiny-llama", "tiny-qwen")
BEHAVIORS = ("authority", "honesty", "sentiment", "sycophancy")
METHODS = ("directional_ablation", "mean_diff", "median_diff", "pca", "probe")
DRAWN = 7  # layers of the first method
SPLITS = {"fit": 64, "calibration": 32, "holdout": 32}
ALPHAS = (0.0, 0.5, 1.0, 2.0, 4.0)
SINGLE = {
    "target_logit": ("target_logit", "log_ratio", "final_log_ratio", "answer_log_ratio", "final_answer_log_ratio",
                     "answer_flip", "flip_to_positive", "flip_to_negative"),
    "base_nll": ("nll", "nll_ratio"),
    "branch_pmass": ("pmass_end", "pmass_mean", "pmass_change", "forks_compared"),
}  # fmt: skip
BY_POSITION = (
    ("kl_trajectory", "kl", range(128)),
    ("branch_pmass", "pmass", range(0, 51, 5)),
    ("branch_pmass", "p_true", range(0, 51, 5)),
)


def fill(path: Path, runs: int, seeds: int = 5) -> None:
    """Make the store: so many runs, in rows of `seeds` that differ in their seed only."""
    Store(path).close()
    layers = -(-runs // (len(MODELS) * len(BEHAVIORS) * len(METHODS) * seeds))
    settings = product(MODELS, BEHAVIORS, METHODS, range(100, 100 + layers), range(seeds))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TEMP TABLE drawn (id INTEGER PRIMARY KEY)")
        for id, setting in enumerate(islice(settings, runs), 1):
            _insert_run(connection, id, *setting)
        _insert_numbers(connection)


def _insert_run(
    connection: sqlite3.Connection, id: int, model: str, behavior: str, method: str, layer: int, seed: int
) -> None:
    random = Random(seed)
    config = {
        "model": model,
        "model_identity": {"source": model, "blocks": 200, "tokenizer": "6" * 64, "weights": "7" * 64},
        "dtype": "float32",
        "chat_template": None,
        "behavior": behavior,
        "behavior_version": 1,
        "behavior_hash": "8" * 64,
        "method": method,
        "method_version": 1,
        "method_params": {},
        "layers": [layer],
        "stat": "kl_p95",
        "stat_version": 1,
        "target": 1.0,
        "tolerance": 0.05,
        "protocol": "stable",
        "window": 20,
        "seed": seed,
        "prompts": {
            split: [f"{random.getrandbits(64):016x}" for _ in range(n)] for split, n in SPLITS.items()
        },
    }
    hash, coefficient = config_hash(config), 100 * Random(id).lognormvariate(0, 0.5)
    columns = {
        name: config[name]
        for name in ("model", "behavior", "method", "stat", "target", "protocol", "seed", "window")
    }
    _insert(
        connection, "configs", hash=hash, hash_version=1, config=json.dumps(config), created_at="", **columns
    )
    owner = {"started_at": "", "host": "", "pid": 1, "provenance": "{}"}
    _insert(connection, "attempts", id=id, config_hash=hash, state="done", **owner)
    budget = {"stat": "kl_p95", "target": 1, "tolerance": 0.05, "value": 1, "n_prompts": 32, "rounds": 3}
    budget |= {"pool": 640, "slope": 2.0}
    found = {"coefficient": coefficient, "low": 0.9 * coefficient, "high": 1.1 * coefficient}
    outcome = "converged" if id % 10 else "jump"
    _insert(connection, "calibrations", attempt_id=id, sign=1, outcome=outcome, **budget, **found)
    if seed == 0 and method == METHODS[0] and layer < 100 + DRAWN:
        _insert(connection, "drawn", id=id)


def _insert(connection: sqlite3.Connection, table: str, **values: Any) -> None:
    names, marks = ", ".join(f'"{name}"' for name in values), ", ".join("?" * len(values))
    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))


def _insert_numbers(connection: sqlite3.Connection) -> None:
    validation = ("holdout", "holdout_sampled", "calibration_sampled")
    keys = [("validation", quantity, 1.0, None) for quantity in validation]
    keys += [
        (m, quantity, alpha, None) for alpha in ALPHAS for m, names in SINGLE.items() for quantity in names
    ]
    keys += [
        (m, quantity, alpha, at) for m, quantity, places in BY_POSITION for alpha in ALPHAS for at in places
    ]
    connection.execute("CREATE TEMP TABLE keys (metric, quantity, alpha, position)")
    connection.executemany("INSERT INTO keys VALUES (?, ?, ?, ?)", keys)
    noise = "(a.id * 7919 + k.rowid * 104729) % 1009 / 10090.0"  # 0 to 0.1
    connection.execute(
        "INSERT INTO summaries (attempt_id, sign, metric, quantity, alpha, position, n, mean, low, high) "
        "SELECT a.id, 1, k.metric, k.quantity, k.alpha, k.position, 32, "
        f"0.8 + {noise}, 0.7 + {noise}, 0.9 + {noise} FROM attempts a CROSS JOIN keys k "
        "WHERE k.position IS NULL OR a.id IN (SELECT id FROM drawn) ORDER BY a.id"
    )
    connection.execute(
        "WITH RECURSIVE prompts (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM prompts WHERE n < 31) "
        "INSERT INTO measurements (attempt_id, sign, metric, quantity, alpha, prompt, position, value) "
        f"SELECT a.id, 1, k.metric, k.quantity, k.alpha, p.n, k.position, {noise} + k.alpha * p.n / 32.0 "
        "FROM drawn a CROSS JOIN keys k CROSS JOIN prompts p WHERE k.metric <> 'validation'"
    )
