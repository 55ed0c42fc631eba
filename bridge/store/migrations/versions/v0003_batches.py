"""Jobs in batches, received messages, and the indexes that deliveries and jobs read by."""

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
    op.create_table(
        "received_message",
        sa.Column(
            "id",
            sa.BigInteger,
            nullable=False,
            autoincrement=False,
            comment="a number from the counter of revisions",
        ),
        sa.Column("digest", sa.String(64), nullable=False, comment="of topic and payload"),
        sa.Column("packet_id", sa.Integer, comment="in the broker's session; null: QoS 0, or used again since"),
        sa.Column(
            "expires_at",
            sa.DateTime(timezone=True),
            comment="of the recognition of an equal message; null: without asked_at",
        ),
        sa.Column(
            "replies",
            sa.LargeBinary,
            nullable=False,
            comment="the last known ones: a JSON list, compressed with zlib",
        ),
        sa.Column("has_one_reply", sa.Boolean, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_received_message"),
        comment="Messages of the broker whose changes are stored, so that they are not applied again.",
    )
    op.create_index("ix_received_message_digest", "received_message", ["digest"])
    op.create_index("ix_received_message_packet_id", "received_message", ["packet_id"])
    op.create_index("ix_received_message_expires_at_id", "received_message", ["expires_at", "id"])
    op.create_table(
        "mqtt_client",
        sa.Column("suffix", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("suffix", name="pk_mqtt_client"),
        comment="One row: the random end of the client ids at the broker. Who knows an id can take its session over.",
    )
