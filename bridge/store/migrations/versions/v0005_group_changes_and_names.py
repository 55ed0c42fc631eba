"""Changes of groups in batches, and the search of persons."""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_ROWS = 10_000


def upgrade() -> None:
    """Add the tables of changes of groups and of names, fill the latter, and index unconfirmed changes."""
    _add_group_changes()
    op.drop_index("ix_person_entry_person_id", "person_entry")
    op.create_index("ix_person_entry_person_id_delivery", "person_entry", ["person_id", "delivery"])
    is_unconfirmed = sa.text("delivery != 'confirmed'")
    op.create_index(
        "ix_person_entry_unconfirmed",
        "person_entry",
        ["delivery", "person_id"],
        sqlite_where=is_unconfirmed,
        postgresql_where=is_unconfirmed,
    )
    names = op.create_table(
        "person_name",
        sa.Column("person_id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text, nullable=False, comment="empty: a removal that a terminal has not confirmed"),
        sa.Column("folded", sa.Text, nullable=False, comment="id and name without upper case, for searches"),
        sa.PrimaryKeyConstraint("person_id", "name", name="pk_person_name"),
        comment="The names of each person on terminals and in groups: far fewer rows to search than there are entries.",
        sqlite_with_rowid=False,
    )
    assert names is not None
    for rows in _names():
        op.bulk_insert(names, rows)
    if op.get_bind().dialect.name == "postgresql":
        # SQLite stores no comments.
        op.alter_column("audit", "group", comment="set where the record is of no terminal")


def _names() -> Iterator[list[dict[str, str]]]:
    """Yield the rows of the names, some at a time."""
    selects = []
    for name in ("person_entry", "group_person"):
        table = sa.table(name, sa.column("person_id", sa.String), sa.column("desired", sa.JSON(none_as_null=True)))
        stored_name = sa.func.coalesce(table.c.desired["name"].as_string(), "")
        selects.append(sa.select(table.c.person_id, stored_name.label("name")).where(table.c.person_id != ""))
    found = op.get_bind().execute(sa.union(*selects), execution_options={"yield_per": _ROWS})
    for rows in found.partitions():
        yield [
            {"person_id": row.person_id, "name": row.name, "folded": f"{row.person_id}\n{row.name}".casefold()}
            for row in rows
        ]


def _add_group_changes() -> None:
    op.create_table(
        "group_change",
        sa.Column(
            "id", sa.BigInteger, nullable=False, autoincrement=False, comment="the revision at which it was accepted"
        ),
        sa.Column("group_name", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column(
            "asked", sa.JSON(none_as_null=True), nullable=False, comment="the request that receives the final replies"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_group_change"),
        sa.CheckConstraint(
            "kind IN ('set', 'remove', 'remove_everyone', 'sync', 'clear')", name="ck_group_change_kind"
        ),
        comment="Accepted changes of groups that are not applied to every member yet.",
    )
    op.create_table(
        "group_change_person",
        sa.Column("change_id", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("position", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("person_id", sa.String(64), nullable=False),
        sa.Column(
            "fields", sa.JSON(none_as_null=True), nullable=False, comment="what is set of the person, without the photo"
        ),
        sa.Column("photo_sha256", sa.String(64)),
        sa.PrimaryKeyConstraint("change_id", "position", name="pk_group_change_person"),
        sa.ForeignKeyConstraint(["photo_sha256"], ["photo.sha256"], name="fk_group_change_person_photo_sha256"),
        comment="The persons of a change of a group.",
    )
    op.create_index("ix_group_change_person_person_id_change_id", "group_change_person", ["person_id", "change_id"])
    op.create_index("ix_group_change_person_photo_sha256", "group_change_person", ["photo_sha256"])
    op.create_table(
        "group_change_member",
        sa.Column("id", sa.BigInteger, nullable=False, autoincrement=False, comment="the order of a terminal's jobs"),
        sa.Column("change_id", sa.BigInteger, nullable=False),
        sa.Column("sn", sa.String(64), nullable=False),
        sa.Column(
            "applied",
            sa.BigInteger,
            nullable=False,
            comment="the position of the last person that is done; -1: none",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_group_change_member"),
        comment="The members to which a change of a group is still to be applied.",
    )
    op.create_index("ix_group_change_member_change_id_id", "group_change_member", ["change_id", "id"])
    op.create_index("ix_group_change_member_sn", "group_change_member", ["sn"])
    op.create_table(
        "web_session_key",
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_web_session_key"),
        comment="One row: the key of the page's session cookies.",
    )
    op.create_table(
        "ended_web_session",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ended_web_session"),
        comment="Sessions of the page that were ended by a logout, until their cookies expire.",
    )
    op.create_index("ix_ended_web_session_expires_at", "ended_web_session", ["expires_at"])
