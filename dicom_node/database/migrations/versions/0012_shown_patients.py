"""Patient ID and Accession Number of studies, for sites that want to see them; empty for all others."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shown_patients",
        sa.Column("study_uid", sa.String(length=64), nullable=False),
        sa.Column("patient_id", sa.String(length=64), nullable=False),
        sa.Column("accession", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("study_uid", name=op.f("pk_shown_patients")),
        sa.ForeignKeyConstraint(["study_uid"], ["studies.study_uid"], name=op.f("fk_shown_patients_study_uid")),
    )
    op.create_index("ix_shown_patients_patient_id", "shown_patients", ["patient_id"], unique=False)
    op.create_index("ix_shown_patients_accession", "shown_patients", ["accession"], unique=False)


def downgrade() -> None:
    op.drop_table("shown_patients")
