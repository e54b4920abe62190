"""Joining stores that several machines filled: the attempts of one are added to the other under new ids."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, Select, Table, insert, select

from isokl_db import schema
from isokl_db.errors import StoreError, speaking_plainly

if TYPE_CHECKING:
    from isokl_db.store import Store

_CHILDREN = (schema.phases, schema.steerings, schema.measurements, schema.summaries, schema.traces)
_IDENTITY = ("config_hash", "started_at", "host", "pid")
_HERE = schema.attempts
_PART = 5000  # rows held at a time


@dataclass(frozen=True, slots=True)
class Merged:
    """What one merge did.

    Attributes:
        attempts: attempts that were added.
        configs: configs that were new.
        known: attempts that were here already.
        running: attempts left out because they are not finished.
        older: configs whose latest done attempt now comes from the other store, but started before the one
            that was the latest here.
    """

    attempts: int
    configs: int
    known: int
    running: int
    older: int


def merge(store: "Store", other: "Store") -> Merged:
    """Add the attempts of one store to another, with configs and prompts that are new: all of them or none.

    Attempts at one config come side by side, and nothing that is stored is changed. An attempt with the same
    config hash, start, host and pid is here already and left out, so that merging twice changes nothing; a
    metric that was added to it in `other` since then does not come along. Those that are still running are
    left out too.

    New ids follow the order in which the attempts of `other` started, so that its latest attempt at a config
    stays the latest of them. An attempt that was here before keeps its id, which is smaller than all new
    ones: one that started after the merged ones is no longer the latest at its config. `Merged.older` counts
    these configs.

    Args:
        store: takes the attempts.
        other: is only read.

    Returns:
        What was added, and what was left out.

    Raises:
        StoreError: both are the same database, or one of them fails.
    """
    _refuse_itself(store, other)
    with other._database.reading() as reading, store._database.writing() as target:
        source = _Source(reading, other.name)
        ended = _HERE.c.state != "running"
        found = source.all(select(_HERE).where(ended).order_by(_HERE.c.started_at, _HERE.c.id))
        running = len(source.all(select(_HERE.c.id).where(~ended)))
        here = set(map(tuple, target.execute(select(*(_HERE.c[name] for name in _IDENTITY)))))
        new = [row for row in found if _identity(row) not in here]
        latest = _latest_starts(target)
        configs = _add_configs(source, target, [row.config_hash for row in new])
        for row in new:
            _add_attempt(source, target, row)
        after = _latest_starts(target)
        older = sum(after[hash] < start for hash, start in latest.items())
    return Merged(len(new), configs, len(found) - len(new), running, older)


@dataclass(frozen=True, slots=True)
class _Source:
    """The other store as it was when the merge began; its failures bear its own name."""

    connection: Connection
    name: str

    def parts(self, query: Select[Any]) -> Iterator[Sequence[Row[Any]]]:
        with speaking_plainly(self.name):
            yield from self.connection.execute(query).partitions(_PART)

    def all(self, query: Select[Any]) -> list[Row[Any]]:
        return [row for part in self.parts(query) for row in part]


def _refuse_itself(store: "Store", other: "Store") -> None:
    if store.path is not None and other.path is not None:
        same = store.path.samefile(other.path)
    else:
        same = store.engine.url == other.engine.url
    if same:
        raise StoreError(f"{other.name} and {store.name} are the same database; merge another one into it")


def _identity(attempt: Row[Any]) -> tuple[Any, ...]:
    return tuple(getattr(attempt, name) for name in _IDENTITY)


def _latest_starts(connection: Connection) -> dict[str, str]:
    """By config hash, when the attempt started that the view `latest` shows."""
    done = select(_HERE.c.config_hash, _HERE.c.started_at).where(_HERE.c.state == "done").order_by(_HERE.c.id)
    return {row.config_hash: row.started_at for row in connection.execute(done)}


def _add_configs(source: _Source, target: Connection, hashes: Iterable[str]) -> int:
    """Add the configs that are not here, with their prompts; returns how many."""
    here = set(target.execute(select(schema.configs.c.hash)).scalars())
    new = [hash for hash in dict.fromkeys(hashes) if hash not in here]
    for hash in new:
        _copy(source, target, schema.configs, hash=hash)
        _copy(source, target, schema.prompts, config_hash=hash)
    return len(new)


def _add_attempt(source: _Source, target: Connection, attempt: Row[Any]) -> None:
    """Add an attempt and all its rows under a new id."""
    id = _insert(target, _HERE, attempt)
    for table in _CHILDREN:
        _copy(source, target, table, {"attempt_id": id}, attempt_id=attempt.id)
    theirs = schema.calibrations
    for row in source.all(select(theirs).where(theirs.c.attempt_id == attempt.id).order_by(theirs.c.id)):
        calibration = _insert(target, theirs, row, attempt_id=id)
        _copy(source, target, schema.evaluations, {"calibration_id": calibration}, calibration_id=row.id)


def _insert(target: Connection, table: Table, row: Row[Any], **parent: int) -> int:
    """Insert a row under a new id, and return that."""
    values = {name: value for name, value in row._mapping.items() if name != "id"}
    key = target.execute(insert(table).values(values | parent)).inserted_primary_key
    assert key is not None
    return int(key[0])


def _copy(
    source: _Source, target: Connection, table: Table, parent: dict[str, int] | None = None, **key: Any
) -> None:
    """Copy the rows of a table that have this key, under new ids and the keys of their new parent."""
    parent = parent or {}
    columns = [column for column in table.c if column.name != "id" and column.name not in parent]
    names, keys = [*parent, *(column.name for column in columns)], tuple(parent.values())
    order = table.c.id if "id" in table.c else None
    for part in source.parts(select(*columns).filter_by(**key).order_by(order)):
        target.execute(insert(table), [dict(zip(names, (*keys, *row), strict=True)) for row in part])
