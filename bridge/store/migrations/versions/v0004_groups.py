"""Groups keep persons: access of each entry, the groups' persons, memberships and their changes."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add what is new.

    No row is rewritten: an entry without `access` is held through the terminal's own changes. So the migration of
    millions of entries takes no time, and nothing is sent again.
    """
    op.add_column(
        "person_entry",
        sa.Column(
            "access",
            sa.JSON(none_as_null=True),
            comment="scopes through which the person is held; null: the terminal's own changes",
        ),
    )
    op.create_table(
        "group_person",
        sa.Column("group_name", sa.String(64), nullable=False),
        sa.Column("person_id", sa.String(64), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False, comment="of the last change in this group"),
        sa.Column(
            "desired",
            sa.JSON(none_as_null=True),
            nullable=False,
            comment="the person as terminals get them that join the group",
        ),
        sa.Column("photo_sha256", sa.String(64), nullable=False),
        sa.Column("valid_until", sa.DateTime(timezone=True), comment="of desired, where there is a limit"),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("group_name", "person_id", name="pk_group_person"),
        sa.ForeignKeyConstraint(["photo_sha256"], ["photo.sha256"], name="fk_group_person_photo_sha256"),
        comment="The persons that groups keep for terminals that join later.",
    )
    op.create_index("ix_group_person_group_name_revision", "group_person", ["group_name", "revision"])
    for column in ("photo_sha256", "valid_until", "person_id"):
        op.create_index(f"ix_group_person_{column}", "group_person", [column])
    op.create_table(
        "group_removal",
        sa.Column("group_name", sa.String(64), nullable=False),
        sa.Column(
            "below",
            sa.BigInteger,
            nullable=False,
            autoincrement=False,
            comment="lower revisions are removed",
        ),
        sa.PrimaryKeyConstraint("group_name", "below", name="pk_group_removal"),
        comment="Groups from which everyone was removed, until all rows are deleted.",
    )
    op.create_table(
        "group_member",
        sa.Column("sn", sa.String(64), nullable=False),
        sa.Column("group_name", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("sn", "group_name", name="pk_group_member"),
        comment="The groups of each terminal, as its persons follow them.",
    )
    op.create_table(
        "membership_job",
        sa.Column(
            "id",
            sa.BigInteger,
            nullable=False,
            autoincrement=False,
            comment="the revision at which the groups changed",
        ),
        sa.Column("sn", sa.String(64), nullable=False),
        sa.Column("left_groups", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("joined_groups", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("left_after", sa.String(64), comment="the person up to which leaving is done; null: all"),
        sa.Column("joined_after", sa.BigInteger, nullable=False, comment="the revision up to which joining is done"),
        sa.PrimaryKeyConstraint("id", name="pk_membership_job"),
        comment="Changes of a terminal's groups that are not applied to every person yet.",
    )
    op.create_index("ix_membership_job_sn", "membership_job", ["sn"])
    op.create_table(
        "membership_done",
        sa.Column("job_id", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("person_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "person_id", name="pk_membership_done"),
        comment="Persons to which a membership job was applied before their turn.",
    )
