"""Alembic's entry point: it runs on the connection that `dicom_node.database.migrations.upgrade` hands in."""

from alembic import context

from dicom_node.database import tables  # noqa: F401 (declares them)
from dicom_node.database.base import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
