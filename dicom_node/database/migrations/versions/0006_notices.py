"""Who was told of which alert; what a sender's archive says of a study, and how much of a study is stored."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_OF_STUDIES = "FROM instances WHERE instances.study_uid = studies.study_uid AND NOT instances.is_own_result"


def upgrade() -> None:
    for name in ("released_at", "asked_at", "fetched_at"):
        op.add_column("studies", sa.Column(name, sa.DateTime(), nullable=True))
    for name in ("images_expected", "images_here"):
        op.add_column("studies", sa.Column(name, sa.Integer(), nullable=True))
    op.add_column("studies", sa.Column("stored_images", sa.Integer(), server_default="0", nullable=False))
    op.add_column("studies", sa.Column("stored_bytes", sa.BigInteger(), server_default="0", nullable=False))
    op.execute(
        f"UPDATE studies SET stored_images = (SELECT count(*) {_OF_STUDIES}), "
        f"stored_bytes = (SELECT coalesce(sum(size), 0) {_OF_STUDIES})"
    )
    op.create_index("ix_alerts_closed_at", "alerts", ["closed_at"], unique=False)
    op.create_table(
        "receivers",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("since", sa.DateTime(), nullable=False),
        sa.Column("last_sent_at", sa.DateTime(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(), nullable=True),
        sa.Column("last_message", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_receivers")),
    )
    op.create_table(
        "notices",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("alert_id", sa.Integer(), nullable=False),
        sa.Column("receiver", sa.String(length=64), nullable=False),
        sa.Column("told_at", sa.DateTime(), nullable=False),
        sa.Column("is_over", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_notices_alert_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
        sa.UniqueConstraint("alert_id", "receiver", name=op.f("uq_notices_alert_id")),
    )
    op.create_index("ix_notices_open", "notices", ["receiver", "is_over"], unique=False)


def downgrade() -> None:
    op.drop_table("notices")
    op.drop_table("receivers")
    op.drop_index("ix_alerts_closed_at", "alerts")
    with op.batch_alter_table("studies") as table:
        for name in ("stored_bytes", "stored_images", "images_here", "images_expected"):
            table.drop_column(name)
        for name in ("fetched_at", "asked_at", "released_at"):
            table.drop_column(name)
