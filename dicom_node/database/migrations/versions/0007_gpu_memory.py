"""Memory of the GPU that a worker computes on, as its heartbeat measures it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("processes", sa.Column("gpu_device", sa.String(length=16), nullable=True))
    op.add_column("processes", sa.Column("gpu_free_bytes", sa.BigInteger(), nullable=True))
    op.add_column("processes", sa.Column("gpu_total_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    for name in ("gpu_total_bytes", "gpu_free_bytes", "gpu_device"):
        op.drop_column("processes", name)
