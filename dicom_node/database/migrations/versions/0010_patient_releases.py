"""For which patient a study was released that holds images of two."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "patient_releases",
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("sop_instance_uid", sa.String(length=64), nullable=False),
        sa.Column("last_instance_id", sa.Integer(), nullable=False),
        sa.Column("by_birth_date", sa.Boolean(), nullable=False),
        sa.Column("released_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_patient_releases_study_uid")),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_patient_releases")),
    )


def downgrade() -> None:
    op.drop_table("patient_releases")
