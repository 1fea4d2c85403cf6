"""Why a job was done and what it saw, which studies wait for a series or are analysed by hand, and which results stay here."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("studies", sa.Column("analyse_anyway", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("jobs", sa.Column("is_put_off", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("jobs", sa.Column("cause", sa.String(length=24), nullable=True))
    op.add_column("jobs", sa.Column("selection", sa.Text(), nullable=True))
    op.add_column("results", sa.Column("is_withheld", sa.Boolean(), server_default=sa.false(), nullable=False))


def downgrade() -> None:
    op.drop_column("results", "is_withheld")
    op.drop_column("jobs", "selection")
    op.drop_column("jobs", "cause")
    op.drop_column("jobs", "is_put_off")
    op.drop_column("studies", "analyse_anyway")
