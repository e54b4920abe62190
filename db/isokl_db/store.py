"""The store: which configs were run, which runs can be taken up again, and what they found."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, insert, select

from isokl_db.attempt import Attempt, this_process, utc_now
from isokl_db.connection import Database
from isokl_db.errors import StoreError
from isokl_db.find import find_attempt
from isokl_db.identity import HASH_VERSION, config_hash
from isokl_db.migrate import is_current, upgrade
from isokl_db.prompts import number_prompts
from isokl_db.query import Table, run_query
from isokl_db.record import read_record
from isokl_db.schema import CONFIG_COLUMNS, attempts, configs, prompts
from isokl_db.takeover import may_run, take_over


class Store:
    """A results database, migrated to the newest schema on opening and created where it is missing.

    Every method raises `StoreError` where the database fails.

    Args:
        target: path of a SQLite file, or any SQLAlchemy URL.
        read_only: store nothing; a missing file is then an error.
        busy_timeout: seconds to wait for another process's lock, on SQLite.

    Raises:
        StoreError: the database cannot be opened or migrated.
    """

    def __init__(self, target: str | Path, *, read_only: bool = False, busy_timeout: float = 30.0) -> None:
        self._database = Database(target, busy_timeout=busy_timeout, read_only=read_only)
        try:
            self._bring_up_to_date(target, busy_timeout)
        except BaseException:
            self.close()
            raise

    def _bring_up_to_date(self, target: str | Path, busy_timeout: float) -> None:
        if not is_current(self._database):
            if self._database.read_only:
                Store(target, busy_timeout=busy_timeout).close()
            else:
                upgrade(self._database)
        self._database.use_wal()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection; the store can no longer be used."""
        self.engine.dispose()

    @property
    def path(self) -> Path | None:
        """The absolute path of the SQLite file, None for any other database."""
        return self._database.path

    @property
    def name(self) -> str:
        """The database as messages name it: the path as given, or the URL without its password."""
        return self._database.name

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine, for whoever wants to read the tables in other ways."""
        return self._database.engine

    # -- runs -------------------------------------------------------------------------------------

    def latest(self, hash: str) -> int | None:
        """Id of the latest attempt that is done at the config with this hash, None where there is none."""
        with self._database.reading() as connection:
            done = select(attempts.c.id).where(attempts.c.config_hash == hash, attempts.c.state == "done")
            return connection.execute(done.order_by(attempts.c.id.desc()).limit(1)).scalar()

    def attempt(self, id: int) -> Attempt:
        """A handle on any attempt, for its steering and phases, and for phases added after it was done.

        Raises:
            StoreError: there is no attempt with this id.
        """
        with self._database.reading() as connection:
            row = connection.execute(select(attempts).where(attempts.c.id == id)).one_or_none()
        if row is None:
            raise self._no_attempt(id)
        return Attempt(self._database, id, row.config_hash)

    def begin(
        self,
        config: Mapping[str, Any],
        *,
        prompts: Mapping[str, Sequence[str]],
        provenance: Mapping[str, Any],
    ) -> Attempt:
        """Start a new attempt, owned by this process; a config that is new is stored with its prompts.

        Args:
            config: the resolved configuration, whose hash is the run's identity.
            prompts: the texts of 'fit', 'calibration' and 'holdout'.
            provenance: where the result comes from; no part of its identity.

        Returns:
            The attempt, running.

        Raises:
            StoreError: a prompt stands twice.
            ValueError: the config is not plain values (see `config_hash`).
        """
        numbered = number_prompts(prompts)
        with self._database.writing() as connection:
            return self._begin(connection, config, numbered, provenance)

    def begin_exclusive(
        self,
        config: Mapping[str, Any],
        *,
        prompts: Mapping[str, Sequence[str]],
        provenance: Mapping[str, Any],
    ) -> Attempt | None:
        """Like `begin`, but None where an attempt at the config is running or done: of several processes that
        ask at once, one begins."""
        numbered = number_prompts(prompts)
        same = select(attempts).where(attempts.c.config_hash == config_hash(config))
        with self._database.writing() as connection:
            for row in connection.execute(same.where(attempts.c.state.in_(("running", "done")))):
                if row.state == "done" or may_run(row):
                    return None
            return self._begin(connection, config, numbered, provenance)

    def _begin(
        self,
        connection: Connection,
        config: Mapping[str, Any],
        numbered: Sequence[Mapping[str, Any]],
        provenance: Mapping[str, Any],
    ) -> Attempt:
        hash = config_hash(config)
        if connection.execute(select(configs.c.hash).where(configs.c.hash == hash)).first() is None:
            _insert_config(connection, hash, config, numbered)
        host, pid = this_process()
        owner = {"state": "running", "started_at": utc_now(), "host": host, "pid": pid}
        row = insert(attempts).values(config_hash=hash, provenance=dict(provenance), **owner)
        key = connection.execute(row).inserted_primary_key
        assert key is not None
        return Attempt(self._database, int(key[0]), hash)

    def resumable(self, hash: str, provenance: Mapping[str, Any] | None = None) -> Attempt | None:
        """Take over the latest attempt at the config if it was interrupted or killed.

        Killed means: still 'running', on this host, by a process that is gone or is this one. Of several
        processes that ask, one gets it.

        Args:
            hash: of the config.
            provenance: of this process; kept beside that of the first, as `provenance["resumed"]`.

        Returns:
            The attempt, now owned by this process; None where there is nothing to take over.
        """
        return take_over(self._database, hash, provenance)

    # -- reading ----------------------------------------------------------------------------------

    def find(self, run: str | int) -> int:
        """The id of the attempt that a person means.

        Args:
            run: an attempt id, or the start of a config hash, which means the latest attempt at that config:
                the latest *successful* one where there is one.

        Raises:
            StoreError: nothing matches, or more than one config does.
        """
        return find_attempt(self._database, str(run))

    def record(self, attempt_id: int) -> dict[str, Any]:
        """All that is stored about an attempt, as JSON-ready values.

        Returns:
            id, hash, hash_version, config, state, error, started_at, finished_at, host, pid, provenance,
            steering_nbytes, and as lists of dicts phases, prompts, calibrations (each with its evaluations),
            summaries, measurements and traces, whose keys are the fields of the row classes.

        Raises:
            StoreError: there is no attempt with this id.
        """
        with self._database.reading() as connection:
            record = read_record(connection, attempt_id)
        if record is None:
            raise self._no_attempt(attempt_id)
        return record

    def query(self, sql: str, **params: Any) -> Table:
        """The answer to one SELECT.

        It cannot write: SQLite is told so, and whatever another database would let through is rolled back.

        Args:
            sql: the statement, with `:name` placeholders.
            params: their values.

        Raises:
            StoreError: the statement fails, or does more than read.
        """
        return run_query(self._database, sql, params)

    def rows(self, sql: str, **params: Any) -> list[dict[str, Any]]:
        """Like `query`, each row as a dict.

        Raises:
            StoreError: also where two columns share a name.
        """
        return self.query(sql, **params).as_dicts()

    def _no_attempt(self, id: int) -> StoreError:
        return StoreError(f"no attempt {id} in {self.name}; `isokl db query 'select * from runs'` lists them")


def _insert_config(
    connection: Connection, hash: str, config: Mapping[str, Any], numbered: Sequence[Mapping[str, Any]]
) -> None:
    columns = {name: config.get(name) for name in CONFIG_COLUMNS}
    row = {"hash": hash, "hash_version": HASH_VERSION, "config": dict(config), "created_at": utc_now()}
    connection.execute(insert(configs).values(**row, **columns))
    if numbered:
        connection.execute(insert(prompts), [{"config_hash": hash, **prompt} for prompt in numbered])
