"""Calibrations may end with `no_dose`: what was measured has no dose to find."""

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

revision = "0002"
down_revision = "0001"

OUTCOME = "ck_calibrations_outcome"


def upgrade() -> None:
    """Widen the CHECK of `calibrations.outcome`; SQLite can only do so by copying the table."""
    with op.batch_alter_table("calibrations", copy_from=_calibrations()) as table:
        table.drop_constraint(op.f(OUTCOME), type_="check")
        table.create_check_constraint(
            op.f(OUTCOME),
            "outcome IN ('converged', 'jump', 'budget_not_reached', 'budget_exceeded', 'no_dose')",
        )


def _calibrations() -> Table:
    """The table as revision 0001 left it: a copy that is made from the database itself would lose its CHECKs."""
    numbers = ("coefficient", "low", "high", "value", "dose_above", "value_above")
    finite = " AND ".join(
        f"{column} BETWEEN -1e308 AND 1e308" for column in ("target", "tolerance", *numbers)
    )
    return Table(
        "calibrations",
        MetaData(),
        *(Column(name, Integer, nullable=False) for name in ("id", "attempt_id", "sign")),
        Column("stat", String(255), nullable=False),
        Column("target", Double, nullable=False),
        Column("tolerance", Double, nullable=False),
        Column("outcome", String(32), nullable=False),
        *(Column(name, Double, nullable=name != "coefficient") for name in numbers),
        Column("n_prompts", Integer, nullable=False),
        Column("rounds", Integer, nullable=False),
        PrimaryKeyConstraint("id", name=op.f("pk_calibrations")),
        CheckConstraint("sign IN (-1, 1)", name=op.f("ck_calibrations_sign")),
        CheckConstraint(
            "outcome IN ('converged', 'jump', 'budget_not_reached', 'budget_exceeded')", name=op.f(OUTCOME)
        ),
        CheckConstraint(finite, name=op.f("ck_calibrations_finite")),
        UniqueConstraint("attempt_id", "sign", name=op.f("uq_calibrations_attempt_id_sign")),
        ForeignKeyConstraint(
            ["attempt_id"],
            ["attempts.id"],
            name=op.f("fk_calibrations_attempt_id"),
            ondelete="CASCADE",
        ),
    )
