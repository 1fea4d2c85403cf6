"""Presentation states, key objects and a second form of the report; an outbox row keeps to the file it sent."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ROLES = "role IN ('report', 'report_2d', 'overlay', 'picture', 'presentation', 'key_object', 'findings')"
_OLD_ROLES = "role IN ('report', 'overlay', 'picture', 'findings')"


def upgrade() -> None:
    with op.batch_alter_table("result_files") as table:
        table.drop_constraint(op.f("ck_result_files_role"), type_="check")
        table.create_check_constraint(op.f("ck_result_files_role"), _ROLES)
    op.add_column("outbox", sa.Column("is_bound", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    op.drop_column("outbox", "is_bound")
    with op.batch_alter_table("result_files") as table:
        table.drop_constraint(op.f("ck_result_files_role"), type_="check")
        table.create_check_constraint(op.f("ck_result_files_role"), _OLD_ROLES)
