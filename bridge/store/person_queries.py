"""Queries about persons, syncs and final replies: plain functions that take a connection.

Those that only read run with `Database.read`, the others within a transaction of `Database.write`. Photos have a module
of their own (`bridge.store.photos`).
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    select,
    tuple_,
    update,
)

from bridge.model.origin import Origin
from bridge.model.person import Person
from bridge.model.person_entry import (
    OWN_SCOPE,
    DeliveryState,
    FinalReply,
    OpenSync,
    PersonEntry,
    PersonJob,
    RequestContext,
)
from bridge.model.reply import Reply
from bridge.model.terminal import PersonCounts
from bridge.store.database import Database
from bridge.store.direct import DirectStatement
from bridge.store.insertion import batches, insert_for, insert_in
from bridge.store.person_names import PersonName, add_names, name_of_person
from bridge.store.tables import (
    COUNTER,
    EVERYONE,
    GROUP_CHANGE,
    GROUP_PERSON,
    MEMBERSHIP_JOB,
    OUTBOX,
    OUTSIDE_CHANGE,
    PERSON_ENTRY,
    PERSON_JOB,
    PERSON_SYNC,
    REVISION,
)

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

_OWN_ACCESS = (OWN_SCOPE,)

_TRUSTED_TIME = "trusted_time"
"""The name of a counter: seconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkedEntries:
    """Some entries that were marked to be sent again.

    Attributes:
        marked: their number.
        confirmed: how many of them were confirmed.
        refused: how many of them were refused.
        next_after: the revision of the last entry that was looked at; None if there is none left.
    """

    marked: int
    confirmed: int
    refused: int
    next_after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """What a transaction on persons needs to know of the store first.

    Attributes:
        next_revision: the revision that comes next.
        has_jobs: whether there is any `PersonJob`.
        has_membership_jobs: whether there is any `MembershipJob`.
        has_group_changes: whether there is any `GroupChange`.
        has_syncs: whether there is any `OpenSync`.
    """

    next_revision: int
    has_jobs: bool
    has_membership_jobs: bool
    has_group_changes: bool
    has_syncs: bool


_MARK_TO_SEND = (
    update(PERSON_ENTRY)
    .where(PERSON_ENTRY.c.sn == bindparam("for_sn"), PERSON_ENTRY.c.person_id == bindparam("for_id"))
    .values(revision=bindparam("new_revision"), delivery=DeliveryState.PENDING.value, status=None, message=None)
)


# Entries


def pending_window(
    connection: Connection, sn: str, removals_after: int, others_after: int, limit: int
) -> tuple[list[PersonEntry], list[PersonEntry]]:
    """Return changes that a terminal has not answered yet, by revision.

    Args:
        connection: a connection.
        sn: the terminal.
        removals_after: the revision after which the removals begin.
        others_after: the revision after which the other changes begin.
        limit: the maximum number of each.

    Returns:
        The removals of persons, with disabled ones and the removal of everyone, and the other changes.
    """

    def part(*, held: bool, after: int) -> list[PersonEntry]:
        values = {"for_sn": sn, "after": after, "at_most": limit}
        return _entries(connection, _PENDING[held], values)

    return part(held=False, after=removals_after), part(held=True, after=others_after)


def page(connection: Connection, sn: str, after: str, limit: int) -> list[PersonEntry]:
    """Return the persons of a terminal whose id is greater than `after`, by id; never the removal of everyone."""
    query = select(PERSON_ENTRY).where(PERSON_ENTRY.c.sn == sn, PERSON_ENTRY.c.person_id > after, _is_kept())
    return _entries(connection, query.order_by(PERSON_ENTRY.c.person_id).limit(limit))


async def pages(database: Database, sn: str, limit: int) -> AsyncIterator[Sequence[PersonEntry]]:
    """Yield the persons of a terminal by id, up to `limit` at a time; never the removal of everyone.

    Raises:
        UnavailableError: the store cannot be read.
    """
    after = ""
    while entries := await database.read(page, sn, after, limit):
        yield entries
        after = entries[-1].person_id or ""


def entry(connection: Connection, sn: str, person_id: str | None) -> PersonEntry | None:
    """Return one person of a terminal; None: the removal of everyone."""
    return next(iter(_entries(connection, _ENTRY, {"for_sn": sn, "for_id": _person_key(person_id)})), None)


def entries(connection: Connection, sn: str, person_ids: Collection[str | None]) -> list[PersonEntry]:
    """Return the entries of these persons (None: the removal of everyone) on a terminal.

    Entries that a running removal of everyone has yet to delete are included.
    """
    if len(person_ids) == 1:
        (person_id,) = person_ids
        rows = _ENTRY_OF_PERSON.mappings(connection, {"for_sn": sn, "for_id": _person_key(person_id)})
        return [_read_entry(row) for row in rows]
    found: list[PersonEntry] = []
    for keys in batches([_person_key(person_id) for person_id in person_ids]):
        found += _entries(connection, _ENTRIES, {"for_sn": sn, "for_ids": keys})
    return found


def entries_on(connection: Connection, sns: Collection[str], person_ids: Collection[str]) -> list[PersonEntry]:
    """Return the entries of these persons on these terminals, as `entries` does."""
    found: list[PersonEntry] = []
    for some in batches(sorted(sns)):
        for ids in batches(sorted(person_ids)):
            query = select(PERSON_ENTRY).where(PERSON_ENTRY.c.sn.in_(some), PERSON_ENTRY.c.person_id.in_(ids))
            found += _entries(connection, query)
    return found


def entries_everywhere(connection: Connection, person_id: str) -> list[PersonEntry]:
    """Return a person's entries on all terminals, by SN."""
    query = select(PERSON_ENTRY).where(PERSON_ENTRY.c.person_id == person_id, _is_kept())
    return _entries(connection, query.order_by(PERSON_ENTRY.c.sn))


def unconfirmed(
    connection: Connection, after: tuple[str, str], limit: int, sns: Collection[str] | None = None
) -> list[PersonEntry]:
    """Return the changes that terminals have not confirmed yet or have refused, removals of everyone included.

    Args:
        connection: a connection.
        after: SN and person id (empty for everyone) after which the result begins.
        limit: the maximum number of entries.
        sns: only of these terminals.

    Returns:
        Entries by SN and person id.
    """
    key = tuple_(PERSON_ENTRY.c.sn, PERSON_ENTRY.c.person_id)
    is_unconfirmed = PERSON_ENTRY.c.delivery != DeliveryState.CONFIRMED.value
    query = select(PERSON_ENTRY).where(key > after, is_unconfirmed, _is_kept())
    if sns is not None:
        query = query.where(PERSON_ENTRY.c.sn.in_(sns))
    return _entries(connection, query.order_by(PERSON_ENTRY.c.sn, PERSON_ENTRY.c.person_id).limit(limit))


def expired(connection: Connection, before: datetime, limit: int) -> list[tuple[str, str]]:
    """Return SN and id of the persons whose `valid_until` is before that time."""
    query = select(PERSON_ENTRY.c.sn, PERSON_ENTRY.c.person_id).where(PERSON_ENTRY.c.valid_until < before)
    rows = connection.execute(query.order_by(PERSON_ENTRY.c.valid_until).limit(limit))
    return [(row.sn, row.person_id) for row in rows]


def last_trusted_time(connection: Connection) -> datetime | None:
    """Return the time that `put_trusted_time` stored, or before the first call the newest time in the store."""
    seconds = connection.execute(select(COUNTER.c.value).where(COUNTER.c.name == _TRUSTED_TIME)).scalar()
    if seconds is not None:
        return datetime.fromtimestamp(seconds, UTC)
    tables = (PERSON_ENTRY, GROUP_PERSON)
    newest = [connection.execute(select(func.max(table.c.changed_at))).scalar() for table in tables]
    return max((time for time in newest if time is not None), default=None)


def put_trusted_time(connection: Connection, time: datetime) -> None:
    """Store the time at which the clock was last trusted."""
    connection.execute(delete(COUNTER).where(COUNTER.c.name == _TRUSTED_TIME))
    connection.execute(insert(COUNTER).values(name=_TRUSTED_TIME, value=int(time.timestamp())))


def entries_below(connection: Connection, sn: str, revision: int, limit: int) -> list[PersonEntry]:
    """Return a terminal's entries of lower revisions, by revision, those that are being removed included."""
    query = select(PERSON_ENTRY).where(PERSON_ENTRY.c.sn == sn, PERSON_ENTRY.c.revision < revision)
    return _entries(connection, query.order_by(PERSON_ENTRY.c.revision).limit(limit))


def mark_to_send(connection: Connection, job: PersonJob, first_revision: int, limit: int) -> MarkedEntries:
    """Mark entries of a sync as pending, with new revisions; read them only as far as needed.

    Args:
        connection: a connection.
        job: the sync; its next entries are those after `send_after`.
        first_revision: the first of at least `limit` reserved revisions.
        limit: the maximum number of entries to look at.
    """
    column = PERSON_ENTRY.c
    query = (
        select(column.person_id, column.revision, column.held, column.delivery)
        .where(column.sn == job.sn, column.revision > job.send_after, column.revision < job.send_below)
        .order_by(column.revision)
        .limit(limit)
    )
    found = connection.execute(query).all()
    # A change that is pending is sent anyway. A person whose removal as disabled is confirmed is not on the terminal
    # and need not be removed again.
    again = [
        row
        for row in found
        if row.delivery == DeliveryState.REFUSED.value
        or (row.delivery == DeliveryState.CONFIRMED.value and row.held)
        or (row.delivery == DeliveryState.PENDING.value and job.send_all)
    ]
    if again:
        changed = [
            {"for_sn": job.sn, "for_id": row.person_id, "new_revision": revision}
            for revision, row in enumerate(again, first_revision)
        ]
        connection.execute(_MARK_TO_SEND, changed)
    return MarkedEntries(
        marked=len(again),
        confirmed=sum(row.delivery == DeliveryState.CONFIRMED.value for row in again),
        refused=sum(row.delivery == DeliveryState.REFUSED.value for row in again),
        next_after=found[-1].revision if len(found) == limit else None,
    )


def put_entries(
    connection: Connection, changed: Sequence[PersonEntry], names: Collection[PersonName] | None = None
) -> None:
    """Add or replace entries; their photos must be stored already.

    Args:
        connection: a connection.
        changed: the entries.
        names: those of their names that may be new; None: all.
    """
    if changed:
        _PUT_ENTRY.run(connection, [_entry_row(one) for one in changed])
        add_names(connection, (name_of(one) for one in changed) if names is None else names)


def name_of(entry: PersonEntry) -> PersonName:
    """Return the person of an entry as searches find them; everyone has an empty id."""
    return (_person_key(entry.person_id), "") if entry.person is None else name_of_person(entry.person)


def drop_entries(connection: Connection, dropped: Sequence[PersonEntry]) -> None:
    """Delete entries."""
    for sn in {one.sn for one in dropped}:
        for keys in batches([_person_key(one.person_id) for one in dropped if one.sn == sn]):
            connection.execute(_DROP_ENTRIES, {"for_sn": sn, "for_ids": keys})


def store_state(connection: Connection) -> StoreState:
    """Return the state of the store at the start of a transaction, in one query.

    The tables of jobs and syncs are nearly always empty.
    """
    ((last, jobs, membership_jobs, group_changes, syncs),) = _STORE_STATE.rows(connection, {})
    return StoreState(
        next_revision=last + 1,
        has_jobs=jobs,
        has_membership_jobs=membership_jobs,
        has_group_changes=group_changes,
        has_syncs=syncs,
    )


def next_revisions(connection: Connection, count: int) -> int:
    """Reserve `count` consecutive revisions and return the first."""
    ((last,),) = _RESERVE_REVISIONS.rows(connection, {"count": count})
    return int(last) - count + 1


def last_revision(connection: Connection) -> int:
    """Return the last revision that was given out."""
    last: int = connection.execute(select(COUNTER.c.value).where(COUNTER.c.name == REVISION)).scalar_one()
    return last


def has_confirmed(connection: Connection, sn: str) -> bool:
    """Return whether a terminal has confirmed any person that it should hold."""
    query = select(PERSON_ENTRY.c.sn).where(
        PERSON_ENTRY.c.sn == sn, _is(DeliveryState.CONFIRMED), PERSON_ENTRY.c.held, _is_kept()
    )
    return connection.execute(query.limit(1)).first() is not None


def refused_removals(connection: Connection, sn: str, limit: int) -> list[str | None]:
    """Return the persons of a terminal (None: everyone) whose removal it has refused, disabled persons included."""
    query = select(PERSON_ENTRY.c.person_id).where(
        PERSON_ENTRY.c.sn == sn, _is(DeliveryState.REFUSED), ~PERSON_ENTRY.c.held, _is_kept()
    )
    keys = connection.execute(query.order_by(PERSON_ENTRY.c.revision).limit(limit)).scalars()
    return [None if key == EVERYONE else key for key in keys]


def unsent_with_photos(connection: Connection, photos: Collection[str], limit: int) -> dict[str, list[str]]:
    """Return by terminal up to `limit` persons with one of these photos whose change the bridge has refused to send."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    left = limit
    for sha256 in sorted(photos):
        for sn, person_id in _UNSENT_WITH_PHOTO.rows(connection, {"sha256": sha256, "at_most": left}):
            found[sn].append(person_id)
            left -= 1
        if left == 0:
            break
    return found


def first_pending(connection: Connection, sn: str) -> int | None:
    """Return the revision of a terminal's oldest pending change."""
    query = select(func.min(PERSON_ENTRY.c.revision)).where(PERSON_ENTRY.c.sn == sn, _is(DeliveryState.PENDING))
    # One query for each value of `held`: a single one would read all pending changes in the index.
    found = (connection.execute(query.where(PERSON_ENTRY.c.held == held)).scalar() for held in (False, True))
    return min((revision for revision in found if revision is not None), default=None)


def counts(connection: Connection, sns: Collection[str] | None = None) -> dict[str, PersonCounts]:
    """Return the counts of all terminals that have persons, or of those among `sns`."""
    column = PERSON_ENTRY.c
    query = select(
        column.sn,
        _count(column.held).label("desired"),
        _count(and_(column.held, _is(DeliveryState.CONFIRMED))).label("confirmed"),
        _count(_is(DeliveryState.PENDING)).label("pending"),
        _count(_is(DeliveryState.REFUSED)).label("refused"),
    ).group_by(column.sn)
    queries = [query] if sns is None else [query.where(column.sn.in_(batch)) for batch in batches(sorted(sns))]
    return {
        row["sn"]: PersonCounts(row["desired"], row["confirmed"], row["pending"], row["refused"])
        for one in queries
        for row in connection.execute(one).mappings()
    }


# Syncs


def add_sync(connection: Connection, sync: OpenSync) -> None:
    """Store a sync until it is finished."""
    row = {"sn": sync.sn, "revision": sync.revision, "asked": sync.request.as_stored()}
    connection.execute(insert(PERSON_SYNC), [row])


def syncs(connection: Connection, sns: Collection[str]) -> list[OpenSync]:
    """Return the syncs of these terminals, oldest first."""
    found: list[OpenSync] = []
    for batch in batches(sorted(sns)):
        found += [
            OpenSync(
                id=row["id"], sn=row["sn"], revision=row["revision"], request=RequestContext.from_stored(row["asked"])
            )
            for row in connection.execute(_SYNCS, {"sns": batch}).mappings()
        ]
    return found


def extend_syncs(connection: Connection, sn: str, revision: int) -> None:
    """Let a terminal's syncs last until nothing up to `revision` is pending."""
    connection.execute(update(PERSON_SYNC).where(PERSON_SYNC.c.sn == sn).values(revision=revision))


def drop_syncs(connection: Connection, ids: Collection[int]) -> None:
    """Delete syncs that are finished."""
    for batch in batches(sorted(ids)):
        connection.execute(delete(PERSON_SYNC).where(PERSON_SYNC.c.id.in_(batch)))


# Jobs that change a terminal's entries in batches


def jobs(connection: Connection) -> list[PersonJob]:
    """Return all unfinished jobs; there are few."""
    return [
        PersonJob(**{**row, "send_after": -1 if row["send_after"] is None else row["send_after"]})
        for row in connection.execute(_JOBS).mappings()
    ]


def put_job(connection: Connection, job: PersonJob) -> None:
    """Store a terminal's job in place of an earlier one; delete it if nothing is left to do."""
    connection.execute(delete(PERSON_JOB).where(PERSON_JOB.c.sn == job.sn))
    if job.drop_below is not None or job.send_below is not None:
        connection.execute(insert(PERSON_JOB).values(asdict(job)))


# The outbox of final replies


def add_final_replies(connection: Connection, final_replies: Sequence[FinalReply]) -> int:
    """Add final replies to the outbox; they report person changes, so they contain no faults and no persons.

    Returns:
        The id of the last one; 0 if there is none.
    """
    rows = [{"reply": one.reply.as_json(), "origin": one.origin.as_stored()} for one in final_replies]
    if not rows:
        return 0
    if len(rows) == 1:
        return _ADD_FINAL_REPLY.insert(connection, rows[0])
    connection.execute(insert(OUTBOX), rows)
    return last_final_reply_id(connection)


def last_final_reply_id(connection: Connection) -> int:
    """Return the id of the newest final reply in the outbox; 0 if it is empty."""
    return connection.execute(_LAST_FINAL_REPLY_ID).scalar() or 0


def final_replies(connection: Connection, after: int, up_to: int, limit: int) -> list[FinalReply]:
    """Return the final replies with ids above `after` and not above `up_to`, oldest first."""
    query = select(OUTBOX).where(OUTBOX.c.id > after, OUTBOX.c.id <= up_to).order_by(OUTBOX.c.id).limit(limit)
    return [
        FinalReply(id=row["id"], reply=Reply.from_stored(row["reply"]), origin=Origin.from_stored(row["origin"]))
        for row in connection.execute(query).mappings()
    ]


def drop_final_replies(connection: Connection, ids: Sequence[int]) -> None:
    """Delete final replies that were published."""
    _DROP_FINAL_REPLY.run(connection, [{"for_id": one} for one in ids])


# Changes by another program


def note_external_changes(connection: Connection, sns: Collection[str]) -> None:
    """Let a running bridge notice that another program changed the persons of these terminals."""
    if sns:
        statement = insert_for(connection)(OUTSIDE_CHANGE).on_conflict_do_nothing(index_elements=["sn"])
        connection.execute(statement, [{"sn": sn} for sn in sns])


def external_changes(connection: Connection) -> list[str]:
    """Return the terminals whose persons another program has changed."""
    return list(connection.execute(_EXTERNAL_CHANGES).scalars())


def drop_external_changes(connection: Connection, sns: Collection[str]) -> None:
    """Delete the notes that another program changed the persons of these terminals."""
    for some in batches(sorted(sns)):
        connection.execute(delete(OUTSIDE_CHANGE).where(OUTSIDE_CHANGE.c.sn.in_(some)))


# Common parts


def entries_of(connection: Connection, query: Select[Any]) -> list[PersonEntry]:
    """Return the entries that a query of their table selects."""
    return _entries(connection, query)


def _put_entry(dialect: str) -> "sqlite.Insert | postgresql.Insert":
    statement = insert_in(dialect)(PERSON_ENTRY)
    replaced = {column.name: statement.excluded[column.name] for column in PERSON_ENTRY.c if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=["sn", "person_id"], set_=replaced)


def _entries(
    connection: Connection, query: Select[Any], values: Mapping[str, object] | None = None
) -> list[PersonEntry]:
    return [_read_entry(row) for row in connection.execute(query, values).mappings()]


def _entry_row(entry: PersonEntry) -> dict[str, Any]:
    return {
        "sn": entry.sn,
        "person_id": _person_key(entry.person_id),
        "revision": entry.revision,
        "desired": None if entry.person is None else entry.person.as_stored(),
        "photo_sha256": None if entry.person is None else entry.person.photo,
        "valid_until": None if entry.person is None else entry.person.expires_at,
        "held": entry.held,
        "delivery": entry.delivery.value,
        "confirmed_revision": entry.confirmed_revision,
        "status": entry.status,
        "message": entry.message,
        "changed_at": entry.changed_at,
        "access": _stored_access(entry),
        "asked": None if entry.request is None else entry.request.as_stored(),
    }


def _read_entry(row: Mapping[str, Any] | RowMapping) -> PersonEntry:
    return PersonEntry(
        sn=row["sn"],
        person_id=None if row["person_id"] == EVERYONE else row["person_id"],
        revision=row["revision"],
        person=None if row["desired"] is None else Person.from_stored(row["desired"]),
        delivery=DeliveryState(row["delivery"]),
        confirmed_revision=row["confirmed_revision"],
        status=row["status"],
        message=row["message"],
        changed_at=row["changed_at"],
        request=None if row["asked"] is None else RequestContext.from_stored(row["asked"]),
        access=() if row["desired"] is None else tuple(row["access"] or _OWN_ACCESS),
    )


def _stored_access(entry: PersonEntry) -> list[str] | None:
    """Return the column `access`; null for the value of all rows before there were groups."""
    return None if entry.person is None or entry.access == _OWN_ACCESS else list(entry.access)


def _person_key(person_id: str | None) -> str:
    return EVERYONE if person_id is None else person_id


def _is(delivery: DeliveryState) -> ColumnElement[bool]:
    return PERSON_ENTRY.c.delivery == delivery.value


def _is_kept() -> ColumnElement[bool]:
    """Exclude the entries that a removal of everyone has yet to delete."""
    job = PERSON_JOB.c
    return ~exists().where(job.sn == PERSON_ENTRY.c.sn, job.drop_below > PERSON_ENTRY.c.revision)


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))


# The statements that a person change runs. They are built once, with their values as parameters, because to build one
# takes 0.1 ms: five times as long as to run it. Those of every change are `DirectStatement`s. They are at the end
# because they use the functions above.

_PENDING = {
    held: select(PERSON_ENTRY)
    .where(
        PERSON_ENTRY.c.sn == bindparam("for_sn"),
        _is(DeliveryState.PENDING),
        PERSON_ENTRY.c.held == held,
        PERSON_ENTRY.c.revision > bindparam("after"),
        _is_kept(),
    )
    .order_by(PERSON_ENTRY.c.revision)
    .limit(bindparam("at_most"))
    for held in (False, True)
}
_ENTRY = select(PERSON_ENTRY).where(
    PERSON_ENTRY.c.sn == bindparam("for_sn"), PERSON_ENTRY.c.person_id == bindparam("for_id"), _is_kept()
)
_OF_PERSONS = and_(
    PERSON_ENTRY.c.sn == bindparam("for_sn"), PERSON_ENTRY.c.person_id.in_(bindparam("for_ids", expanding=True))
)
_ENTRIES = select(PERSON_ENTRY).where(_OF_PERSONS).order_by(PERSON_ENTRY.c.person_id)
_DROP_ENTRIES = delete(PERSON_ENTRY).where(_OF_PERSONS)
_ENTRY_OF_PERSON = DirectStatement(
    lambda _: select(PERSON_ENTRY).where(
        PERSON_ENTRY.c.sn == bindparam("for_sn"), PERSON_ENTRY.c.person_id == bindparam("for_id")
    )
)
_PUT_ENTRY = DirectStatement(_put_entry, [column.name for column in PERSON_ENTRY.c])
_STORE_STATE = DirectStatement(
    lambda _: select(
        COUNTER.c.value, *(select(table).exists() for table in (PERSON_JOB, MEMBERSHIP_JOB, GROUP_CHANGE, PERSON_SYNC))
    ).where(COUNTER.c.name == REVISION)
)
_RESERVE_REVISIONS = DirectStatement(
    lambda _: (
        update(COUNTER)
        .where(COUNTER.c.name == REVISION)
        .values(value=COUNTER.c.value + bindparam("count"))
        .returning(COUNTER.c.value)
    )
)
_UNSENT_WITH_PHOTO = DirectStatement(
    lambda _: (
        select(PERSON_ENTRY.c.sn, PERSON_ENTRY.c.person_id)
        .where(
            PERSON_ENTRY.c.photo_sha256 == bindparam("sha256"),
            _is(DeliveryState.REFUSED),
            PERSON_ENTRY.c.status.is_(None),
            _is_kept(),
        )
        .order_by(PERSON_ENTRY.c.revision)
        .limit(bindparam("at_most"))
    )
)
_SYNCS = select(PERSON_SYNC).where(PERSON_SYNC.c.sn.in_(bindparam("sns", expanding=True))).order_by(PERSON_SYNC.c.id)
_JOBS = select(PERSON_JOB).order_by(PERSON_JOB.c.sn)
_ADD_FINAL_REPLY = DirectStatement(lambda _: insert(OUTBOX), ["reply", "origin"])
_LAST_FINAL_REPLY_ID = select(func.max(OUTBOX.c.id))
_DROP_FINAL_REPLY = DirectStatement(lambda _: delete(OUTBOX).where(OUTBOX.c.id == bindparam("for_id")))
_EXTERNAL_CHANGES = select(OUTSIDE_CHANGE.c.sn)
