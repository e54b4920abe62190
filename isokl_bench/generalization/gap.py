"""`isokl_bench.gap`: the distance between calibration and evaluation, one source at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from isokl_bench.api import DEFAULT_DB, check_db
from isokl_bench.generalization.sources import gap_phase
from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.events import Event, Listener, silent
from isokl_bench.pipeline.plan import Plan, resolve
from isokl_bench.pipeline.record import Record
from isokl_db import Outcome, Store, canonical_json
from isokl_registry import IsoklError, load_registry

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("sign", "source", "changed", "value", "ratio", "low", "high", "n", "tokens", "reason")


def gap(run: str | int, **options: Any) -> pd.DataFrame:
    """The stat at the calibrated coefficient of a finished run, with one thing at a time changed against its calibration.

    Args:
        run: an attempt id, or the start of a config hash.
        options: as `gap_record` takes them.

    Returns:
        A row per sign and source: value (of the stat), ratio (to the target), low and high (95 % over prompts, None
        where it is open), n (prompts), tokens (of each) and, for what could not be scored, reason.

    Raises:
        IsoklError: in one line, as `gap_record` does.
        StoreError: likewise, when the database is at fault.
    """
    import pandas as pd

    return pd.DataFrame(gap_rows(gap_record(run, **options)), columns=list(COLUMNS))


def gap_record(
    run: str | int,
    *,
    db: str | Path = DEFAULT_DB,
    model: str | None = None,
    behavior: str | None = None,
    chat_template: str | None = None,
    device: str = "auto",
    listen: Listener = silent,
) -> Record:
    """The record of a run with its gap in it, measured now unless that was done before.

    Args:
        run: an attempt id, or the start of a config hash.
        db: a path or an SQLAlchemy URL.
        model: the folder or file that the run was given, where it was given one; what it holds must be what it was.
        behavior: the file, likewise.
        chat_template: the file, likewise.
        device: auto, cpu, cuda, cuda:1 …
        listen: called with an Event now and then.

    Returns:
        What is stored of the run, gap included.

    Raises:
        IsoklError: when the run is not finished, has no coefficient on budget, or cannot be set up as it was.
    """
    check_db(db)
    with Store(db, read_only=True) as store:
        name, record = store.name, Record.load(store, store.find(run), cached=True)
    missing = _missing(record, listen)
    if not missing:
        listen(Event("stored", f"answered from {name}: this gap is stored already", 1.0))
        return record
    plan = _plan(record, model, behavior, chat_template, device)
    from isokl_bench.generalization.runner import GapRunner

    with Store(db) as store:
        GapRunner(plan, record, store.attempt(record.attempt), load_registry(), listen).run(missing)
        return Record.load(store, record.attempt)


def gap_rows(record: Record) -> list[dict[str, Any]]:
    """What is stored of the gap, as plain values with the keys of COLUMNS, in the order of the sources."""
    stored = {phase["name"]: phase["data"] for phase in record.data["phases"]}
    rows = []
    for summary in record.data["summaries"]:
        if summary["metric"] != "gap":
            continue
        source = {"sign": summary["sign"], "source": summary["quantity"]}
        source |= stored[gap_phase(summary["sign"]).to_text()][summary["quantity"]]
        value, target = summary["mean"], record.config["target"]
        source |= {"value": value, "ratio": None if value is None else value / target}
        source |= {key: summary[key] for key in ("low", "high", "n", "reason")}
        rows.append({key: source[key] for key in COLUMNS})
    return rows


def _missing(record: Record, listen: Listener) -> list[int]:
    """Signs that have a coefficient on budget and no gap yet."""
    run = f"run {record.hash[:12]} (attempt {record.attempt})"
    if record.data["state"] != "done":
        raise IsoklError(f"{run} is {record.data['state']}: finish it with `isokl run` first")
    if any(c["outcome"] == Outcome.NO_DOSE for c in record.calibrations):
        raise IsoklError(
            f"{run} steers by a prompt and was not calibrated, so there is no gap: give a run of a method that has a dose"
        )
    reached = [c["sign"] for c in record.calibrations if Outcome(c["outcome"]).measured]
    others = [
        f"sign {c['sign']:+d} ended with {Outcome(c['outcome']).words}"
        for c in record.calibrations
        if c["sign"] not in reached
    ]
    if not reached:
        raise IsoklError(
            f"{run} has no coefficient on budget ({', '.join(others)}): run it with another --target"
        )
    stored = {phase["name"] for phase in record.data["phases"]}
    missing = [sign for sign in reached if gap_phase(sign).to_text() not in stored]
    if missing and others:
        listen(Event("note", f"{', '.join(others)}: there is no gap to measure"))
    return missing


def _plan(
    record: Record, model: str | None, behavior: str | None, chat_template: str | None, device: str
) -> Plan:
    """The run's plan again, from its stored configuration.

    Raises:
        IsoklError: when that resolves to something else now.
    """
    stored = record.config
    own_template = "plain" if stored["chat_template"] == "plain" else None
    sizes: dict[str, Any] = {f"{split}_prompts": len(texts) for split, texts in stored["prompts"].items()}
    same: dict[str, Any] = {
        key: stored[key]
        for key in ("method", "stat", "target", "tolerance", "protocol", "window", "seed", "dtype")
    }
    if position := stored.get("position"):  # runs of before it was an option have none
        same["position"] = position
    config = RunConfig(
        model=stored["model"] if model is None else model,
        behavior=stored["behavior"] if behavior is None else behavior,
        layers=",".join(map(str, stored["layers"])),
        chat_template=own_template if chat_template is None else chat_template,
        revision=None if model is not None else stored["model_identity"].get("commit"),
        device=device,
        **sizes,
        **same,
    )
    try:
        plan = resolve(config, load_registry())
    except IsoklError as error:
        raise IsoklError(
            f"run {record.hash[:12]} cannot be set up again: {error}; if the run was given a folder or a file, give it "
            "again (--model FOLDER, --behavior FILE)"
        ) from error
    _check_same(record, plan.identity)
    return plan


def _check_same(record: Record, now: dict[str, Any]) -> None:
    """Raises IsoklError that names the first part of the configuration that is not what it was."""
    stored, run = record.config, f"run {record.hash[:12]}"
    changed = [
        key for key in stored if canonical_json({"": now.get(key)}) != canonical_json({"": stored[key]})
    ]
    if not changed:
        return
    part = changed[0].split("_")[0]
    if part == "chat":
        fix = "leave --chat-template out"
        if stored["chat_template"] not in (None, "plain"):
            fix = "give the same file again with --chat-template FILE"
        raise IsoklError(f"the chat template is not the one of {run}: {fix}")
    name = f"{part} {stored[part]}" if part in ("model", "behavior", "method", "stat") else part
    raise IsoklError(
        f"the {name} has changed since {run}, or another one was given: calibrate again with `isokl run`"
    )
