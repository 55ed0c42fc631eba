"""Changes of groups in batches."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the tables of changes of groups."""
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
