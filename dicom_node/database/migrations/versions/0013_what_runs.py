"""Which version and which model a process runs."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("processes", sa.Column("version", sa.String(length=40), nullable=True))
    op.add_column("processes", sa.Column("model", sa.String(length=200), nullable=True))


def downgrade() -> None:
    op.drop_column("processes", "model")
    op.drop_column("processes", "version")
