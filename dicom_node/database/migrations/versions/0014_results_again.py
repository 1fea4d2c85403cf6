"""A study that is again what it was before a correction gets a result of its own."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_KEY = ("study_uid", "input_hash", "model_digest", "settings_digest")


def upgrade() -> None:
    _change("study_uid", "generation", *_KEY[1:])


def downgrade() -> None:
    _change(*_KEY)


def _change(*columns: str) -> None:
    with op.batch_alter_table("results") as table:
        table.drop_constraint(op.f("uq_results_study_uid"), type_="unique")
        table.create_unique_constraint(op.f("uq_results_study_uid"), list(columns))
