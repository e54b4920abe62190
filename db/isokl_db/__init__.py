"""The results store: what was run, what it found, and how far a run that died had come.

Nothing here knows what steering is. Plain values go in (numbers, text, bytes, lists, dicts and the frozen
rows below) and plain values come out, so that the store can be read with nothing but SQLAlchemy installed,
and with any SQLite tool.

    with Store("isokl.db") as store:
        hash = config_hash(config)
        if store.latest(hash) is None:
            attempt = store.resumable(hash) or store.begin(config, prompts=prompts, provenance={})
            with attempt.phase("fit") as phase:
                phase.steering = ...
            attempt.done()
"""

from isokl_db.attempt import INTERRUPTED, Attempt, PhaseContent
from isokl_db.errors import StoreError
from isokl_db.identity import HASH_VERSION, canonical_json, config_hash
from isokl_db.merge import Merged, merge
from isokl_db.query import Table
from isokl_db.rows import Calibration, Evaluation, Measurement, Outcome, Summary, Trace
from isokl_db.schema import REVISION
from isokl_db.store import Store

__all__ = [
    "HASH_VERSION",
    "INTERRUPTED",
    "REVISION",
    "Attempt",
    "Calibration",
    "Evaluation",
    "Measurement",
    "Merged",
    "Outcome",
    "PhaseContent",
    "Store",
    "StoreError",
    "Summary",
    "Table",
    "Trace",
    "canonical_json",
    "config_hash",
    "merge",
]
