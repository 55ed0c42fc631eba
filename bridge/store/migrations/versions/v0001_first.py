"""The first schema: terminals, persons, photos, the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Create the tables."""
    identity = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "terminal",
        sa.Column("sn", sa.String(64), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("area", sa.Text),
        sa.Column("groups", sa.JSON, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("username", sa.Text),
        sa.Column("password", sa.Text, comment="a hash"),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sn", name="pk_terminal"),
        comment="Known terminals that are not in the configuration.",
    )
    op.create_table(
        "photo",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("jpeg", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_photo"),
        comment="Photos by their content: a person on a hundred terminals has one.",
    )
    op.create_table(
        "person_entry",
        sa.Column("sn", sa.String(64), nullable=False),
        sa.Column("person_id", sa.String(64), nullable=False, comment="empty: the removal of everyone"),
        sa.Column("revision", sa.BigInteger, nullable=False, comment="the order of all changes to all terminals"),
        sa.Column("desired", sa.JSON, comment="the person as they should be; null: removed"),
        sa.Column("photo_sha256", sa.String(64)),
        sa.Column(
            "held",
            sa.Boolean,
            nullable=False,
            comment="the terminal is to hold the person: neither removed nor disabled",
        ),
        sa.Column("delivery", sa.String(16), nullable=False),
        sa.Column("confirmed_revision", sa.BigInteger, comment="the newest that the terminal has confirmed"),
        sa.Column("status", sa.BigInteger, comment="what the terminal said of this revision"),
        sa.Column("message", sa.Text),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("asked", sa.JSON, comment="the request that receives the final reply"),
        sa.PrimaryKeyConstraint("sn", "person_id", name="pk_person_entry"),
        sa.ForeignKeyConstraint(["photo_sha256"], ["photo.sha256"], name="fk_person_entry_photo_sha256"),
        sa.CheckConstraint("delivery IN ('pending', 'confirmed', 'refused')", name=op.f("ck_person_entry_delivery")),
        comment="What each terminal should hold, and how far it is.",
    )
    op.create_index("ix_person_entry_sn_delivery_revision", "person_entry", ["sn", "delivery", "revision"])
    op.create_index("ix_person_entry_photo_sha256", "person_entry", ["photo_sha256"])
    op.create_table(
        "person_sync",
        sa.Column("id", identity, nullable=False),
        sa.Column("sn", sa.String(64), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False, comment="the last that it sends again"),
        sa.Column("asked", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_person_sync"),
        comment="Syncs that are not finished.",
        sqlite_autoincrement=True,
    )
    op.create_index("ix_person_sync_sn", "person_sync", ["sn"])
    op.create_table(
        "outbox",
        sa.Column("id", identity, nullable=False),
        sa.Column("reply", sa.JSON, nullable=False),
        sa.Column("origin", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        comment="Final replies that the broker has not acknowledged yet.",
        sqlite_autoincrement=True,
    )
    counter = op.create_table(
        "counter",
        sa.Column("name", sa.String(16), nullable=False),
        sa.Column("value", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counter"),
        comment="The last revision given out. The largest one stored will not do: rows go away.",
    )
    op.bulk_insert(counter, [{"name": "revision", "value": 0}])
