"""`isokl_bench.run`: what the command line calls, and what a notebook calls."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isokl_bench.pipeline.config import RunConfig
from isokl_bench.pipeline.events import Event, Listener, one_line, silent
from isokl_bench.pipeline.phases import missing_phases, stored_phases
from isokl_bench.pipeline.plan import Plan, resolve
from isokl_bench.pipeline.record import Record
from isokl_db import INTERRUPTED, Attempt, Store, StoreError, config_hash
from isokl_registry import IsoklError, load_registry, shown

if TYPE_CHECKING:
    from isokl_bench.pipeline.model_cache import ModelCache

DEFAULT_DB = "isokl.db"


class TakenError(IsoklError):
    """Another process is at this run."""


def run(
    model: str,
    method: str,
    *,
    db: str | Path = DEFAULT_DB,
    force: bool = False,
    listen: Listener = silent,
    **options: Any,
) -> Record:
    """Fit, calibrate, validate and measure one steering, or answer from the store when that was done before.

    The same configuration on the same machine gives the same numbers.

    Args:
        model: a name, a hub id, a folder or a GGUF file.
        method: a name, or name[key=value,…].
        db: a path or an SQLAlchemy URL.
        force: make a new attempt even if one is stored.
        listen: called with an Event now and then.
        options: the other fields of RunConfig (behavior, layers, stat, target, protocol, seed, alphas, …).

    Returns:
        What is stored of the run.

    Raises:
        IsoklError: in one line, when something cannot be done; what was stored before stays.
        StoreError: likewise, when the database is at fault.
    """
    return run_config(RunConfig(model=model, method=method, **options), db=db, force=force, listen=listen)


def run_config(
    config: RunConfig, *, db: str | Path = DEFAULT_DB, force: bool = False, listen: Listener = silent
) -> Record:
    """The same for a ready configuration."""
    check_db(db)
    plan = resolve(config, load_registry())
    with Store(db) as store:
        attempt, cached = run_plan(plan, store, force=force, listen=listen)
        return Record.load(store, attempt, cached=cached)


def check_db(db: object) -> None:
    """Raise IsoklError for what cannot be a path or URL, before anything is done."""
    if not isinstance(db, str | PathLike):
        raise IsoklError(f"db is {shown(db)}: give a path or an SQLAlchemy URL")


def run_plan(
    plan: Plan,
    store: Store,
    *,
    force: bool = False,
    exclusive: bool = False,
    listen: Listener = silent,
    model_cache: ModelCache | None = None,
) -> tuple[int, bool]:
    """The same for a resolved one, in an open store.

    Args:
        plan: what to run.
        store: where the results go.
        force: make a new attempt even if one is stored.
        exclusive: raise TakenError where another process is running it, instead of beginning a second attempt.
        listen: called with an Event now and then.
        model_cache: what earlier runs of this process have loaded.

    Returns:
        The attempt's id, and whether it was stored already.
    """
    done = None if force else store.latest(config_hash(plan.identity))
    if done is not None and not lacks_something(plan, store.attempt(done)):
        listen(
            Event(
                "stored", f"answered from {store.name}: this run is stored already (--force repeats it)", 1.0
            )
        )
        return done, True
    attempt = _attempt(plan, store, done, force, exclusive, listen)
    _carry_out(plan, attempt, listen, model_cache, finished=attempt.id == done)
    return attempt.id, False


def lacks_something(plan: Plan, attempt: Attempt) -> bool:
    """Whether the plan asks for what the attempt has not stored."""
    return bool(missing_phases(plan, stored_phases(attempt.phases())))


def _attempt(
    plan: Plan, store: Store, done: int | None, force: bool, exclusive: bool, listen: Listener
) -> Attempt:
    """The finished attempt that lacks some metric, else the interrupted one, else a new one."""
    from isokl_bench.pipeline.device import pick_device
    from isokl_bench.pipeline.provenance import provenance

    if done is not None:
        listen(Event("note", "this run is stored already; measuring what it lacks"))
        return store.attempt(done)
    origin = provenance(pick_device(plan.config.device))
    resumed = None if force else store.resumable(config_hash(plan.identity), origin)
    if resumed is not None:
        finished = ", ".join(resumed.phases()) or "no phase"
        listen(Event("note", f"picking up attempt {resumed.id} after {finished}"))
        return resumed
    begin = store.begin_exclusive if exclusive else store.begin
    attempt = begin(plan.identity, prompts=plan.splits.texts(), provenance=origin)
    if attempt is None:
        raise TakenError(_taken(store, plan))
    return attempt


def _taken(store: Store, plan: Plan) -> str:
    newest = (
        "SELECT id, host, pid FROM attempts WHERE config_hash = :hash AND state = 'running' ORDER BY id DESC"
    )
    rows = store.rows(newest, hash=config_hash(plan.identity))
    if not rows:
        return "another process has just finished this"
    return "process {pid} on {host} is running this (attempt {id}); if it is dead, --take-over".format(
        **rows[0]
    )


def _carry_out(
    plan: Plan, attempt: Attempt, listen: Listener, model_cache: ModelCache | None, *, finished: bool
) -> None:
    from isokl_bench.pipeline.model_cache import ModelCache
    from isokl_bench.pipeline.runner import PartlyFailed, Runner

    try:
        Runner(plan, attempt, load_registry(), listen, model_cache or ModelCache()).run()
    except KeyboardInterrupt:
        if not finished:
            attempt.fail(INTERRUPTED)
        raise
    except PartlyFailed:
        if not finished:
            attempt.done()
        raise
    except StoreError:
        raise  # a full or locked disk takes no last word either; the next call takes the attempt up
    except SystemExit as error:  # a stranger's code may try; it is a failure like any other
        if not finished:
            attempt.fail("a plugin tried to exit the interpreter")
        raise IsoklError("a plugin tried to exit the interpreter: the run is stored as failed") from error
    except BaseException as error:
        if not finished:
            attempt.fail(one_line(error))
        raise
    if not finished:
        attempt.done()
