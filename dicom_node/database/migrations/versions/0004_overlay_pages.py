"""The table of levels and the sheet of slices beside the overlay."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_OLD_ROLES = "role IN ('report', 'report_2d', 'overlay', 'picture', 'presentation', 'key_object', 'findings')"
_ROLES = (
    "role IN ('report', 'report_2d', 'overlay', 'table', 'sheet', 'picture', 'presentation', 'key_object', 'findings')"
)


def upgrade() -> None:
    _allow(_ROLES)


def downgrade() -> None:
    _allow(_OLD_ROLES)


def _allow(roles: str) -> None:
    with op.batch_alter_table("result_files") as table:
        table.drop_constraint(op.f("ck_result_files_role"), type_="check")
        table.create_check_constraint(op.f("ck_result_files_role"), roles)
