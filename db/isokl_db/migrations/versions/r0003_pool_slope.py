"""Calibrations say how many tokens their stat saw, and how steeply it grows with the dose."""

from alembic import op
from sqlalchemy import (
    CheckConstraint,
    Column,
    Double,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    UniqueConstraint,
)

revision = "0003"
down_revision = "0002"

FINITE = "ck_calibrations_finite"
NUMBERS = ("coefficient", "low", "high", "value", "dose_above", "value_above")


def upgrade() -> None:
    """Add two columns and put the second under the CHECK of finite numbers; SQLite can only do so by copying the table."""
    with op.batch_alter_table("calibrations", copy_from=_calibrations(), recreate="always") as table:
        table.add_column(Column("pool", Integer))
        table.add_column(Column("slope", Double))
        table.drop_constraint(op.f(FINITE), type_="check")
        table.create_check_constraint(op.f(FINITE), _finite("target", "tolerance", *NUMBERS, "slope"))


def _finite(*columns: str) -> str:
    return " AND ".join(f"{column} BETWEEN -1e308 AND 1e308" for column in columns)


def _calibrations() -> Table:
    """The table as revision 0002 left it: a copy that is made from the database itself would lose its CHECKs."""
    return Table(
        "calibrations",
        MetaData(),
        *(Column(name, Integer, nullable=False) for name in ("id", "attempt_id", "sign")),
        Column("stat", String(255), nullable=False),
        Column("target", Double, nullable=False),
        Column("tolerance", Double, nullable=False),
        Column("outcome", String(32), nullable=False),
        *(Column(name, Double, nullable=name != "coefficient") for name in NUMBERS),
        Column("n_prompts", Integer, nullable=False),
        Column("rounds", Integer, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_calibrations")),
        CheckConstraint("sign IN (-1, 1)", name=op.f("ck_calibrations_sign")),
        CheckConstraint(
            "outcome IN ('converged', 'jump', 'budget_not_reached', 'budget_exceeded', 'no_dose')",
            name=op.f("ck_calibrations_outcome"),
        ),
        CheckConstraint(_finite("target", "tolerance", *NUMBERS), name=op.f(FINITE)),
        UniqueConstraint("attempt_id", "sign", name=op.f("uq_calibrations_attempt_id_sign")),
        ForeignKeyConstraint(
            ["attempt_id"],
            ["attempts.id"],
            name=op.f("fk_calibrations_attempt_id"),
            ondelete="CASCADE",
        ),
    )
