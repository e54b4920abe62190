"""Which attempt a person means who typed an id, or the first letters of a hash."""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from isokl_db.connection import Database
from isokl_db.errors import StoreError
from isokl_db.schema import attempts, configs

_LIST = "`isokl db query 'select attempt_id, hash from runs'` lists them"


def find_attempt(database: Database, run: str) -> int:
    """The id of the attempt that `run` means; see `isokl_db.Store.find`."""
    with database.reading() as connection:
        if (id := _by_id(connection, run)) is not None:
            return id
        if (hash := _only(_hashes(connection, run), run, database.name)) is not None:
            successful_first = (attempts.c.state == "done").desc(), attempts.c.id.desc()
            newest = select(attempts.c.id).where(attempts.c.config_hash == hash).order_by(*successful_first)
            if (id := connection.execute(newest.limit(1)).scalar()) is not None:
                return int(id)
    raise StoreError(
        f"no run {run!r} in {database.name}: no attempt has this id, no hash this start; {_LIST}"
    )


def _by_id(connection: Connection, run: str) -> int | None:
    if not (run.isascii() and run.isdecimal() and len(run) < 19):
        return None
    return connection.execute(select(attempts.c.id).where(attempts.c.id == int(run))).scalar()


def _hashes(connection: Connection, start: str) -> Sequence[str]:
    if not start:
        return []
    matching = select(configs.c.hash).where(configs.c.hash.startswith(start.lower(), autoescape=True))
    return connection.execute(matching.order_by(configs.c.hash).limit(4)).scalars().all()


def _only(hashes: Sequence[str], run: str, name: str) -> str | None:
    if len(hashes) > 1:
        some = ", ".join(hash[:12] for hash in hashes)
        raise StoreError(f"{run!r} is the start of several hashes in {name}: {some}; give more of it")
    return hashes[0] if hashes else None
