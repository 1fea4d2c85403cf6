"""What the status counts, so that it costs the same however many studies there are."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_INDEXES = {
    "ix_instances_replaced": ("instances", ["id"], "is_current = false"),
    "ix_instances_own": ("instances", ["study_uid", "size"], "is_own_result = true"),
    "ix_studies_last_received_at": ("studies", ["last_received_at"], None),
    "ix_studies_on_disk": ("studies", ["last_received_at"], "files > 0"),
    "ix_jobs_newest": ("jobs", ["state", "outcome"], "is_newest = true"),
    "ix_results_status": ("results", ["status", "reason"], None),
    "ix_outbox_study_uid": ("outbox", ["study_uid"], None),
    "ix_outbox_counts": ("outbox", ["destination", "state", "proof"], None),
}


def upgrade() -> None:
    op.add_column("studies", sa.Column("files", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("outcome", sa.String(length=16), nullable=True))
    op.add_column("jobs", sa.Column("is_newest", sa.Boolean(), server_default=sa.true(), nullable=False))
    op.execute(
        "UPDATE studies SET files = (SELECT count(*) FROM instances "
        "WHERE instances.study_uid = studies.study_uid AND instances.purged_at IS NULL)"
    )
    op.execute("UPDATE jobs SET outcome = (SELECT status FROM results WHERE results.id = jobs.result_id)")
    op.execute("UPDATE jobs SET is_newest = false WHERE id NOT IN (SELECT max(id) FROM jobs GROUP BY study_uid)")
    for name, (table, columns, where) in _INDEXES.items():
        # SQLite uses such an index only for a condition that is written like this one.
        sqlite = where and sa.text(where.replace("true", "1").replace("false", "0"))
        postgresql = where and sa.text(where)
        op.create_index(name, table, columns, unique=False, sqlite_where=sqlite, postgresql_where=postgresql)


def downgrade() -> None:
    for name, (table, _, _) in _INDEXES.items():
        op.drop_index(name, table)
    op.drop_column("jobs", "is_newest = true")
    op.drop_column("jobs", "outcome")
    op.drop_column("studies", "files")
