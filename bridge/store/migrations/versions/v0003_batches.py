"""Jobs that change a terminal's entries in batches, and the index that they read by."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what is new."""
    op.create_index("ix_person_entry_sn_revision", "person_entry", ["sn", "revision"])
    op.create_index("ix_person_entry_sn_delivery_held_revision", "person_entry", ["sn", "delivery", "held", "revision"])
    op.drop_index("ix_person_entry_sn_delivery_revision", "person_entry")
    op.create_table(
        "person_job",
        sa.Column("sn", sa.String(64), nullable=False),
        sa.Column(
            "drop_below",
            sa.BigInteger,
            comment="entries of lower revisions are removed already, and deleted in batches",
        ),
        sa.Column("drop_message", sa.Text, comment="of the replies to the requests of these entries"),
        sa.Column("send_below", sa.BigInteger, comment="entries of lower revisions are marked to be sent again"),
        sa.Column("send_after", sa.BigInteger, comment="the revision up to which that is done"),
        sa.Column("send_all", sa.Boolean, nullable=False, comment="also those that are pending and those confirmed"),
        sa.PrimaryKeyConstraint("sn", name="pk_person_job"),
        comment="Removals of everyone and syncs that are accepted, but not applied to every entry yet.",
    )
