"""Proof that a destination keeps what it got, promises to senders, and images whose files were deleted by retention."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_PROOFS = "proof IN ('none', 'wanted', 'asked', 'committed', 'found')"
_OUTBOX_COLUMNS = ("transaction_uid", "losses", "proof_attempts", "proof_at", "proof")


def upgrade() -> None:
    op.add_column("instances", sa.Column("purged_at", sa.DateTime(), nullable=True))
    with op.batch_alter_table("outbox") as table:
        table.add_column(sa.Column("proof", sa.String(length=16), server_default="none", nullable=False))
        table.add_column(sa.Column("proof_at", sa.DateTime(), nullable=True))
        table.add_column(sa.Column("proof_attempts", sa.Integer(), server_default="0", nullable=False))
        table.add_column(sa.Column("losses", sa.Integer(), server_default="0", nullable=False))
        table.add_column(sa.Column("transaction_uid", sa.String(length=64), nullable=True))
        table.create_check_constraint(op.f("ck_outbox_proof"), _PROOFS)
    op.create_index("ix_outbox_proof", "outbox", ["proof", "destination", "proof_at"], unique=False)
    op.create_table(
        "commitments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("destination", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.DateTime(), nullable=False),
        sa.Column("answered_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitments")),
        sa.UniqueConstraint("transaction_uid", name=op.f("uq_commitments_transaction_uid")),
    )
    op.create_table(
        "promises",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("transaction_uid", sa.String(length=64), nullable=False),
        sa.Column("calling_ae", sa.String(length=16), nullable=False),
        sa.Column("instances", sa.Text(), nullable=False),
        sa.Column("refusal", sa.Integer(), nullable=True),
        sa.Column("received_at", sa.DateTime(), nullable=False),
        sa.Column("answered_at", sa.DateTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(), nullable=True),
        sa.Column("last_message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_promises")),
    )
    op.create_index("ix_promises_due", "promises", ["next_attempt_at"], unique=False)


def downgrade() -> None:
    op.drop_table("promises")
    op.drop_table("commitments")
    op.drop_index("ix_outbox_proof", "outbox")
    with op.batch_alter_table("outbox") as table:
        table.drop_constraint(op.f("ck_outbox_proof"), type_="check")
        for name in _OUTBOX_COLUMNS:
            table.drop_column(name)
    op.drop_column("instances", "purged_at")
