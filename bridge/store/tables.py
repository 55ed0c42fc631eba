"""The tables after the newest migration; a test compares the two."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

EVERYONE = ""
"""The `person_id` of the removal of everyone; the id of a person is never empty."""


class UtcDateTime(TypeDecorator[datetime]):
    """A time with an offset, stored in UTC, because SQLite does not store the offset."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Convert to UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, _dialect: Dialect) -> datetime | None:
        """Set the offset to UTC."""
        return None if value is None else value.replace(tzinfo=value.tzinfo or UTC)


_Id = BigInteger().with_variant(Integer, "sqlite")
_Json = JSON(none_as_null=True)

METADATA = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
    }
)

TERMINAL = Table(
    "terminal",
    METADATA,
    Column("sn", String(64), primary_key=True),
    Column("origin", String(16), nullable=False),
    Column("name", Text),
    Column("area", Text),
    Column("groups", _Json, nullable=False),
    Column("key", Text),
    Column("username", Text),
    Column("password", Text, comment="a hash"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    comment="Known terminals that are not in the configuration.",
)

PHOTO = Table(
    "photo",
    METADATA,
    Column("sha256", String(64), primary_key=True),
    Column("jpeg", LargeBinary, nullable=False, comment="encrypted where key_id is set"),
    Column("key_id", String(16), comment="of the key that the photo is encrypted with; null: it is not"),
    # Finds the photos that are encrypted with another key than the first of the configuration.
    Index(None, "key_id"),
    comment="Photos by their content: a person on a hundred terminals has one.",
)

PERSON_ENTRY = Table(
    "person_entry",
    METADATA,
    Column("sn", String(64), primary_key=True),
    Column("person_id", String(64), primary_key=True, comment="empty: the removal of everyone"),
    Column("revision", BigInteger, nullable=False, comment="the order of all changes to all terminals"),
    Column("desired", _Json, comment="the person as they should be; null: removed"),
    Column("photo_sha256", ForeignKey(PHOTO.c.sha256)),
    Column("valid_until", UtcDateTime, comment="of desired, where there is a limit"),
    Column("held", Boolean, nullable=False, comment="the terminal is to hold the person: neither removed nor disabled"),
    Column("delivery", String(16), nullable=False),
    Column("confirmed_revision", BigInteger, comment="the newest that the terminal has confirmed"),
    Column("status", BigInteger, comment="what the terminal said of this revision"),
    Column("message", Text),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("access", _Json, comment="scopes through which the person is held; null: the terminal's own changes"),
    Column("asked", _Json, comment="the request that receives the final reply"),
    CheckConstraint("delivery IN ('pending', 'confirmed', 'refused')", name="delivery"),
    # Finds the next changes of a terminal, removals and others, each in their order, and the oldest one.
    Index(None, "sn", "delivery", "held", "revision"),
    # Finds the entries that a sync or a removal of everyone has not reached yet.
    Index(None, "sn", "revision"),
    Index(None, "photo_sha256"),
    # Find the persons that have expired, and one person on every terminal.
    Index(None, "valid_until"),
    Index(None, "person_id", "delivery"),
    # Finds the persons with changes that are pending or refused; nearly all entries are confirmed. PostgreSQL has the
    # condition from the migration: here it would import that dialect at each start.
    Index("ix_person_entry_unconfirmed", "delivery", "person_id", sqlite_where=text("delivery != 'confirmed'")),
    comment="What each terminal should hold, and how far it is.",
)

PERSON_NAME = Table(
    "person_name",
    METADATA,
    Column("person_id", String(64), primary_key=True),
    Column("name", Text, primary_key=True, comment="empty: a removal that a terminal has not confirmed"),
    Column("folded", Text, nullable=False, comment="id and name without upper case, for searches"),
    comment="The names of each person on terminals and in groups: far fewer rows to search than there are entries.",
    # The table is the index that a search reads from start to end.
    sqlite_with_rowid=False,
)

PERSON_SYNC = Table(
    "person_sync",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("sn", String(64), nullable=False),
    Column("revision", BigInteger, nullable=False, comment="the last that it sends again"),
    Column("asked", _Json, nullable=False),
    Index(None, "sn"),
    comment="Syncs that are not finished.",
    sqlite_autoincrement=True,
)

PERSON_JOB = Table(
    "person_job",
    METADATA,
    Column("sn", String(64), primary_key=True),
    Column("drop_below", BigInteger, comment="entries of lower revisions are removed already, and deleted in batches"),
    Column("drop_message", Text, comment="of the replies to the requests of these entries"),
    Column("send_below", BigInteger, comment="entries of lower revisions are marked to be sent again"),
    Column("send_after", BigInteger, comment="the revision up to which that is done"),
    Column("send_all", Boolean, nullable=False, comment="also those that are pending and those confirmed"),
    comment="Removals of everyone and syncs that are accepted, but not applied to every entry yet.",
)

GROUP_PERSON = Table(
    "group_person",
    METADATA,
    Column("group_name", String(64), primary_key=True),
    Column("person_id", String(64), primary_key=True),
    Column("revision", BigInteger, nullable=False, comment="of the last change in this group"),
    Column("desired", _Json, nullable=False, comment="the person as terminals get them that join the group"),
    Column("photo_sha256", ForeignKey(PHOTO.c.sha256), nullable=False),
    Column("valid_until", UtcDateTime, comment="of desired, where there is a limit"),
    Column("changed_at", UtcDateTime, nullable=False),
    # Finds the persons that a terminal gets which joins, in the order in which they were changed.
    Index(None, "group_name", "revision"),
    Index(None, "photo_sha256"),
    Index(None, "valid_until"),
    Index(None, "person_id"),
    comment="The persons that groups keep for terminals that join later.",
)

GROUP_REMOVAL = Table(
    "group_removal",
    METADATA,
    Column("group_name", String(64), primary_key=True),
    Column("below", BigInteger, primary_key=True, autoincrement=False, comment="lower revisions are removed"),
    comment="Groups from which everyone was removed, until all rows are deleted.",
)

GROUP_MEMBER = Table(
    "group_member",
    METADATA,
    Column("sn", String(64), primary_key=True),
    Column("group_name", String(64), primary_key=True),
    comment="The groups of each terminal, as its persons follow them.",
)

MEMBERSHIP_JOB = Table(
    "membership_job",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False, comment="the revision at which the groups changed"),
    Column("sn", String(64), nullable=False),
    Column("left_groups", _Json, nullable=False),
    Column("joined_groups", _Json, nullable=False),
    Column("left_after", String(64), comment="the person up to which leaving is done; null: all"),
    Column("joined_after", BigInteger, nullable=False, comment="the revision up to which joining is done"),
    Index(None, "sn"),
    comment="Changes of a terminal's groups that are not applied to every person yet.",
)

MEMBERSHIP_DONE = Table(
    "membership_done",
    METADATA,
    Column("job_id", BigInteger, primary_key=True, autoincrement=False),
    Column("person_id", String(64), primary_key=True),
    comment="Persons to which a membership job was applied before their turn.",
)

GROUP_CHANGE = Table(
    "group_change",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False, comment="the revision at which it was accepted"),
    Column("group_name", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("asked", _Json, nullable=False, comment="the request that receives the final replies"),
    CheckConstraint("kind IN ('set', 'remove', 'remove_everyone', 'sync', 'clear')", name="kind"),
    comment="Accepted changes of groups that are not applied to every member yet.",
)

GROUP_CHANGE_PERSON = Table(
    "group_change_person",
    METADATA,
    Column("change_id", BigInteger, primary_key=True, autoincrement=False),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("person_id", String(64), nullable=False),
    Column("fields", _Json, nullable=False, comment="what is set of the person, without the photo"),
    Column("photo_sha256", ForeignKey(PHOTO.c.sha256)),
    Index(None, "person_id", "change_id"),
    Index(None, "photo_sha256"),
    comment="The persons of a change of a group.",
)

GROUP_CHANGE_MEMBER = Table(
    "group_change_member",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False, comment="the order of a terminal's jobs"),
    Column("change_id", BigInteger, nullable=False),
    Column("sn", String(64), nullable=False),
    Column("applied", BigInteger, nullable=False, comment="the position of the last person that is done; -1: none"),
    Index(None, "change_id", "id"),
    Index(None, "sn"),
    comment="The members to which a change of a group is still to be applied.",
)

OUTBOX = Table(
    "outbox",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("reply", _Json, nullable=False),
    Column("origin", _Json, nullable=False),
    comment="Final replies that the broker has not acknowledged yet.",
    # An id must not be used again: the entry that had it may still be reported as published.
    sqlite_autoincrement=True,
)

OUTSIDE_CHANGE = Table(
    "outside_change",
    METADATA,
    Column("sn", String(64), primary_key=True),
    comment="Terminals whose persons another program than the bridge has changed, until the bridge has looked.",
)

RECEIVED_MESSAGE = Table(
    "received_message",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False, comment="a number from the counter of revisions"),
    Column("digest", String(64), nullable=False, comment="of topic and payload"),
    Column("packet_id", Integer, comment="in the broker's session; null: QoS 0, or used again since"),
    Column("expires_at", UtcDateTime, comment="of the recognition of an equal message; null: without asked_at"),
    Column("replies", LargeBinary, nullable=False, comment="the last known ones: a JSON list, compressed with zlib"),
    Column("has_one_reply", Boolean, key="has_few_replies", nullable=False),
    Index(None, "digest"),
    Index(None, "packet_id"),
    # Finds those that can be deleted.
    Index(None, "expires_at", "id"),
    comment="Messages of the broker whose changes are stored, so that they are not applied again.",
)

AUDIT = Table(
    "audit",
    METADATA,
    Column("id", _Id, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("command", String(32), nullable=False),
    Column("sn", String(64)),
    Column("group", String(64), comment="set where the record is of no terminal"),
    Column("person_id", String(64)),
    Column("request_id", String(128)),
    Column("source", Text, nullable=False, comment="the topic, the API's route or the command line's command"),
    Column("user", Text),
    Column("outcome", String(16), nullable=False),
    Column("status", BigInteger),
    Column("message", Text),
    Column("duration_ms", Double),
    Index(None, "at"),
    comment="Who asked for what, and how it ended. Rows are added, and dropped once they are old; none is changed.",
    sqlite_autoincrement=True,
)

MQTT_CLIENT = Table(
    "mqtt_client",
    METADATA,
    Column("suffix", String(32), primary_key=True),
    comment="One row: the random end of the client ids at the broker. Who knows an id can take its session over.",
)

WEB_SESSION_KEY = Table(
    "web_session_key",
    METADATA,
    Column("key", LargeBinary, primary_key=True),
    comment="One row: the key of the page's session cookies.",
)

ENDED_WEB_SESSION = Table(
    "ended_web_session",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("expires_at", UtcDateTime, nullable=False),
    Index(None, "expires_at"),
    comment="Sessions of the page that were ended by a logout, until their cookies expire.",
)

COUNTER = Table(
    "counter",
    METADATA,
    Column("name", String(16), primary_key=True),
    Column("value", BigInteger, nullable=False),
    comment="The last revision given out. The largest one stored will not do: rows go away.",
)

REVISION = "revision"
"""The name of the counter of revisions."""
