"""The first schema. A migration is history: it is not edited when `isokl_db.schema` moves on."""

from alembic import op
from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    String,
    Text,
    UniqueConstraint,
)

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create every table."""
    _configs()
    _attempts()
    _phases()
    _calibrations()
    _measurements()
    _summaries()
    _traces()


def _configs() -> None:
    op.create_table(
        "configs",
        Column("hash", String(64)),
        Column("hash_version", Integer, nullable=False),
        Column("config", JSON, nullable=False),
        *(Column(name, String(255)) for name in ("model", "behavior", "method", "stat")),
        Column("target", Double),
        Column("protocol", String(255)),
        Column("seed", Integer),
        Column("window", Integer),
        Column("created_at", String(32), nullable=False),
        PrimaryKeyConstraint("hash", name=op.f("pk_configs")),
    )
    op.create_table(
        "prompts",
        Column("config_hash", String(64), nullable=False),
        Column("split", String(16), nullable=False),
        Column("position", Integer, nullable=False),
        Column("sha256", String(64), nullable=False),
        Column("text", Text, nullable=False),
        PrimaryKeyConstraint("config_hash", "split", "position", name=op.f("pk_prompts")),
        _check("prompts", "split", "split IN ('fit', 'calibration', 'holdout')"),
        UniqueConstraint("config_hash", "sha256", name=op.f("uq_prompts_config_hash_sha256")),
        _of("prompts", "config_hash", "configs.hash"),
    )


def _attempts() -> None:
    op.create_table(
        "attempts",
        Column("id", Integer, nullable=False),
        Column("config_hash", String(64), nullable=False),
        Column("state", String(16), nullable=False),
        Column("error", Text),
        Column("started_at", String(32), nullable=False),
        Column("finished_at", String(32)),
        Column("host", String(255), nullable=False),
        Column("pid", Integer, nullable=False),
        Column("provenance", JSON, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        _check("attempts", "state", "state IN ('running', 'done', 'failed', 'skipped')"),
        _of("attempts", "config_hash", "configs.hash"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_attempts_config_hash_state_id"), "attempts", ["config_hash", "state", "id"])


def _phases() -> None:
    op.create_table(
        "phases",
        Column("attempt_id", Integer, nullable=False),
        Column("name", String(64), nullable=False),
        Column("seconds", Double, nullable=False),
        Column("finished_at", String(32), nullable=False),
        Column("data", JSON),
        PrimaryKeyConstraint("attempt_id", "name", name=op.f("pk_phases")),
        _finite("phases", "seconds"),
        _of("phases", "attempt_id", "attempts.id"),
    )
    op.create_table(
        "steerings",
        Column("attempt_id", Integer, nullable=False),
        Column("data", LargeBinary(2**32 - 1), nullable=False),
        Column("nbytes", Integer, nullable=False),
        PrimaryKeyConstraint("attempt_id", name=op.f("pk_steerings")),
        _of("steerings", "attempt_id", "attempts.id"),
    )


def _calibrations() -> None:
    numbers = ("coefficient", "low", "high", "value", "dose_above", "value_above")
    op.create_table(
        "calibrations",
        *_keys(),
        Column("stat", String(255), nullable=False),
        Column("target", Double, nullable=False),
        Column("tolerance", Double, nullable=False),
        Column("outcome", String(32), nullable=False),
        *(Column(name, Double, nullable=name != "coefficient") for name in numbers),
        Column("n_prompts", Integer, nullable=False),
        Column("rounds", Integer, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_calibrations")),
        _check("calibrations", "sign", "sign IN (-1, 1)"),
        _check(
            "calibrations",
            "outcome",
            "outcome IN ('converged', 'jump', 'budget_not_reached', 'budget_exceeded')",
        ),
        _finite("calibrations", "target", "tolerance", *numbers),
        UniqueConstraint("attempt_id", "sign", name=op.f("uq_calibrations_attempt_id_sign")),
        _of("calibrations", "attempt_id", "attempts.id"),
    )
    op.create_table(
        "evaluations",
        Column("id", Integer, nullable=False),
        Column("calibration_id", Integer, nullable=False),
        Column("round", Integer, nullable=False),
        Column("dose", Double, nullable=False),
        Column("value", Double),
        Column("tokens", Integer, nullable=False),
        Column("complete", Boolean, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_evaluations")),
        _finite("evaluations", "dose", "value"),
        _of("evaluations", "calibration_id", "calibrations.id"),
    )
    op.create_index(op.f("ix_evaluations_calibration_id"), "evaluations", ["calibration_id"])


def _measurements() -> None:
    op.create_table(
        "measurements",
        *_keys(),
        Column("metric", String(64), nullable=False),
        Column("quantity", String(64), nullable=False),
        Column("alpha", Double, nullable=False),
        Column("prompt", Integer, nullable=False),
        Column("position", Integer),
        Column("value", Double),
        Column("reason", Text),
        PrimaryKeyConstraint("id", name=op.f("pk_measurements")),
        _check("measurements", "sign", "sign IN (-1, 1)"),
        _finite("measurements", "alpha", "value"),
        _check("measurements", "scored", "(value IS NULL) = (reason IS NOT NULL)"),
        _of("measurements", "attempt_id", "attempts.id"),
    )
    key = ["attempt_id", "metric", "quantity", "alpha", "sign"]
    op.create_index(op.f("ix_measurements_attempt_id"), "measurements", key)


def _summaries() -> None:
    op.create_table(
        "summaries",
        *_keys(),
        Column("metric", String(64), nullable=False),
        Column("quantity", String(64), nullable=False),
        Column("alpha", Double, nullable=False),
        Column("position", Integer),
        Column("n", Integer, nullable=False),
        Column("mean", Double),
        Column("low", Double),
        Column("high", Double),
        Column("reason", Text),
        PrimaryKeyConstraint("id", name=op.f("pk_summaries")),
        _check("summaries", "sign", "sign IN (-1, 1)"),
        _finite("summaries", "alpha", "mean", "low", "high"),
        _check("summaries", "scored", "(mean IS NULL) = (reason IS NOT NULL)"),
        _of("summaries", "attempt_id", "attempts.id"),
    )
    key = ["attempt_id", "metric", "quantity", "alpha", "sign", "position"]
    op.create_index(op.f("ix_summaries_attempt_id"), "summaries", key)


def _traces() -> None:
    op.create_table(
        "traces",
        *_keys(),
        Column("alpha", Double, nullable=False),
        Column("prompt", Integer, nullable=False),
        Column("sampled", Boolean, nullable=False),
        Column("text", Text, nullable=False),
        Column("tokens", JSON, nullable=False),
        Column("kl", JSON, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_traces")),
        _check("traces", "sign", "sign IN (-1, 1)"),
        _finite("traces", "alpha"),
        _of("traces", "attempt_id", "attempts.id"),
    )
    op.create_index(op.f("ix_traces_attempt_id"), "traces", ["attempt_id", "alpha", "sign", "prompt"])


def _keys() -> tuple[Column[int], ...]:
    return tuple(Column(name, Integer, nullable=False) for name in ("id", "attempt_id", "sign"))


def _of(table: str, column: str, parent: str) -> ForeignKeyConstraint:
    return ForeignKeyConstraint([column], [parent], name=op.f(f"fk_{table}_{column}"), ondelete="CASCADE")


def _check(table: str, name: str, condition: str) -> CheckConstraint:
    return CheckConstraint(condition, name=op.f(f"ck_{table}_{name}"))


def _finite(table: str, *columns: str) -> CheckConstraint:
    return _check(table, "finite", " AND ".join(f"{column} BETWEEN -1e308 AND 1e308" for column in columns))
