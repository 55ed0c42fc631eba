"""The audit, encrypted photos, persons that expire, and changes made beside a running bridge."""

import json
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_BATCH = 1000
_LIMIT = "of desired, where there is a limit"


def upgrade() -> None:
    """Add what is new, and fill `valid_until` from what is there."""
    op.add_column(
        "photo",
        sa.Column("key_id", sa.String(16), comment="of the key that the photo is encrypted with; null: it is not"),
    )
    op.create_index("ix_photo_key_id", "photo", ["key_id"])
    if op.get_context().dialect.supports_comments:
        op.alter_column("photo", "jpeg", comment="encrypted where key_id is set")
    op.add_column("person_entry", sa.Column("valid_until", sa.DateTime(timezone=True), comment=_LIMIT))
    op.create_index("ix_person_entry_valid_until", "person_entry", ["valid_until"])
    op.create_index("ix_person_entry_person_id", "person_entry", ["person_id"])
    op.create_table(
        "outside_change",
        sa.Column("sn", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("sn", name="pk_outside_change"),
        comment="Terminals whose persons another program than the bridge has changed, until the bridge has looked.",
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("command", sa.String(32), nullable=False),
        sa.Column("sn", sa.String(64)),
        sa.Column("group", sa.String(64), comment="set only where a command for a group was invalid"),
        sa.Column("person_id", sa.String(64)),
        sa.Column("request_id", sa.String(128)),
        sa.Column(
            "source",
            sa.Text,
            nullable=False,
            comment="the topic, the API's route or the command line's command",
        ),
        sa.Column("user", sa.Text),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("status", sa.BigInteger),
        sa.Column("message", sa.Text),
        sa.Column("duration_ms", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        comment="Who asked for what, and how it ended. Rows are added, and dropped once they are old; none is changed.",
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    _fill_valid_until()


def _fill_valid_until() -> None:
    entry = sa.table(
        "person_entry",
        sa.column("sn"),
        sa.column("person_id"),
        sa.column("desired", sa.JSON),
        sa.column("valid_until", sa.DateTime(timezone=True)),
    )
    key = sa.tuple_(entry.c.sn, entry.c.person_id)
    query = sa.select(entry.c.sn, entry.c.person_id, entry.c.desired).order_by(entry.c.sn, entry.c.person_id)
    connection = op.get_bind()
    rows = connection.execute(query.limit(_BATCH)).all()
    while rows:
        for sn, person_id, desired in rows:
            person = json.loads(desired) if isinstance(desired, str) else desired
            if person is not None and person["valid_until"] is not None:
                until = datetime.fromisoformat(person["valid_until"]).astimezone(UTC)
                connection.execute(sa.update(entry).where(key == (sn, person_id)).values(valid_until=until))
        after = (rows[-1].sn, rows[-1].person_id)
        rows = connection.execute(query.where(key > after).limit(_BATCH)).all()
