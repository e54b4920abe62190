"""The tables. The views over them are in `views.py`, the way here from older versions in `migrations/`.

Columns use only types that SQLite, PostgreSQL and MySQL share; times are ISO 8601 texts in UTC, which sort as
they read.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from isokl_db.rows import Outcome

REVISION = "0003"
"""The newest migration: the schema that this version reads and writes."""

STATES = ("running", "done", "failed", "skipped")
SPLITS = ("fit", "calibration", "holdout")
CONFIG_COLUMNS = ("model", "behavior", "method", "stat", "target", "protocol", "seed", "window")
"""Keys of a config that are columns too, so that people and views need not take JSON apart."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _one_of(column: str, values: tuple[str, ...]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({', '.join(repr(value) for value in values)})", name=column)


def _finite(*columns: str) -> CheckConstraint:
    """Neither infinity nor, where a database has it, NaN (SQLite makes it NULL, which `_scored` refuses)."""
    return CheckConstraint(" AND ".join(f"{c} BETWEEN -1e308 AND 1e308" for c in columns), name="finite")


def _scored(column: str) -> CheckConstraint:
    return CheckConstraint(f"({column} IS NULL) = (reason IS NOT NULL)", name="scored")


def _signed() -> CheckConstraint:
    return CheckConstraint("sign IN (-1, 1)", name="sign")


def _of_attempt(*, primary_key: bool = False) -> Column[int]:
    link = ForeignKey("attempts.id", ondelete="CASCADE")
    return Column("attempt_id", Integer, link, primary_key=primary_key, nullable=False)


def _of_config(*, primary_key: bool = False) -> Column[str]:
    link = ForeignKey("configs.hash", ondelete="CASCADE")
    return Column("config_hash", String(64), link, primary_key=primary_key, nullable=False)


configs = Table(
    "configs",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("hash_version", Integer, nullable=False),
    Column("config", JSON, nullable=False),
    Column("model", String(255)),
    Column("behavior", String(255)),
    Column("method", String(255)),
    Column("stat", String(255)),
    Column("target", Double),
    Column("protocol", String(255)),
    Column("seed", Integer),
    Column("window", Integer),
    Column("created_at", String(32), nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_config(),
    Column("state", String(16), nullable=False),
    Column("error", Text),
    Column("started_at", String(32), nullable=False),
    Column("finished_at", String(32)),
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("provenance", JSON, nullable=False),
    _one_of("state", STATES),
    Index(None, "config_hash", "state", "id"),
    sqlite_autoincrement=True,  # an id that was exported or printed never comes to mean another run
)

phases = Table(
    "phases",
    metadata,
    _of_attempt(primary_key=True),
    Column("name", String(64), primary_key=True),
    Column("seconds", Double, nullable=False),
    Column("finished_at", String(32), nullable=False),
    Column("data", JSON(none_as_null=True)),
    _finite("seconds"),
)

steerings = Table(
    "steerings",
    metadata,
    _of_attempt(primary_key=True),
    Column("data", LargeBinary(2**32 - 1), nullable=False),
    Column("nbytes", Integer, nullable=False),
)

prompts = Table(
    "prompts",
    metadata,
    _of_config(primary_key=True),
    Column("split", String(16), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("text", Text, nullable=False),
    _one_of("split", SPLITS),
    UniqueConstraint("config_hash", "sha256"),  # the proof that the splits are disjoint
)

calibrations = Table(
    "calibrations",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_attempt(),
    Column("sign", Integer, nullable=False),
    Column("stat", String(255), nullable=False),
    Column("target", Double, nullable=False),
    Column("tolerance", Double, nullable=False),
    Column("outcome", String(32), nullable=False),
    Column("coefficient", Double, nullable=False),
    Column("low", Double),
    Column("high", Double),
    Column("value", Double),
    Column("dose_above", Double),
    Column("value_above", Double),
    Column("n_prompts", Integer, nullable=False),
    Column("rounds", Integer, nullable=False),
    Column("pool", Integer),
    Column("slope", Double),
    _signed(),
    _one_of("outcome", tuple(outcome.value for outcome in Outcome)),
    _finite(
        "target", "tolerance", "coefficient", "low", "high", "value", "dose_above", "value_above", "slope"
    ),
    UniqueConstraint("attempt_id", "sign"),
)

evaluations = Table(
    "evaluations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column(
        "calibration_id",
        Integer,
        ForeignKey("calibrations.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    ),
    Column("round", Integer, nullable=False),
    Column("dose", Double, nullable=False),
    Column("value", Double),
    Column("tokens", Integer, nullable=False),
    Column("complete", Boolean, nullable=False),
    _finite("dose", "value"),
)

measurements = Table(
    "measurements",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_attempt(),
    Column("sign", Integer, nullable=False),
    Column("metric", String(64), nullable=False),
    Column("quantity", String(64), nullable=False),
    Column("alpha", Double, nullable=False),
    Column("prompt", Integer, nullable=False),
    Column("position", Integer),
    Column("value", Double),
    Column("reason", Text),
    _signed(),
    _finite("alpha", "value"),
    _scored("value"),
    Index("ix_measurements_attempt_id", "attempt_id", "metric", "quantity", "alpha", "sign"),
)

summaries = Table(
    "summaries",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_attempt(),
    Column("sign", Integer, nullable=False),
    Column("metric", String(64), nullable=False),
    Column("quantity", String(64), nullable=False),
    Column("alpha", Double, nullable=False),
    Column("position", Integer),
    Column("n", Integer, nullable=False),
    Column("mean", Double),
    Column("low", Double),
    Column("high", Double),
    Column("reason", Text),
    _signed(),
    _finite("alpha", "mean", "low", "high"),
    _scored("mean"),
    Index("ix_summaries_attempt_id", "attempt_id", "metric", "quantity", "alpha", "sign", "position"),
)

traces = Table(
    "traces",
    metadata,
    Column("id", Integer, primary_key=True),
    _of_attempt(),
    Column("sign", Integer, nullable=False),
    Column("alpha", Double, nullable=False),
    Column("prompt", Integer, nullable=False),
    Column("sampled", Boolean, nullable=False),
    Column("text", Text, nullable=False),
    Column("tokens", JSON, nullable=False),
    Column("kl", JSON, nullable=False),
    _signed(),
    _finite("alpha"),
    Index("ix_traces_attempt_id", "attempt_id", "alpha", "sign", "prompt"),
)
