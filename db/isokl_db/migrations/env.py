"""Alembic's entry: run the revisions in the transaction that `isokl_db.migrate` opened."""

from alembic import context

from isokl_db.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
