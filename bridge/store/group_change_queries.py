"""Queries about accepted changes of groups that are not applied to every member yet: plain functions."""

from collections import defaultdict
from collections.abc import Collection, Sequence

from sqlalchemy import Connection, RowMapping, Select, and_, delete, exists, func, insert, select, update

from bridge.model.person import fields_as_stored, fields_from_stored
from bridge.model.person_entry import (
    PERSON_KINDS,
    ChangedPerson,
    GroupChange,
    GroupChangeKind,
    MemberJob,
    RequestContext,
)
from bridge.store.insertion import batches, insert_for
from bridge.store.tables import (
    GROUP_CHANGE,
    GROUP_CHANGE_MEMBER,
    GROUP_CHANGE_PERSON,
    MEMBERSHIP_DONE,
    PERSON_ENTRY,
    PERSON_JOB,
)

_MEMBER = GROUP_CHANGE_MEMBER.c
_PERSON = GROUP_CHANGE_PERSON.c

_ANY_CHANGE = select(GROUP_CHANGE.c.id).limit(1)
"""Built once: most transactions on persons run it."""


_IS_WHOLE = GROUP_CHANGE.c.kind.not_in([kind.value for kind in PERSON_KINDS])


def has_changes(connection: Connection) -> bool:
    """Return whether there is any unfinished change of a group."""
    return connection.execute(_ANY_CHANGE).first() is not None


def oldest_change(connection: Connection) -> GroupChange | None:
    """Return the unfinished change that was accepted first."""
    row = connection.execute(select(GROUP_CHANGE).order_by(GROUP_CHANGE.c.id).limit(1)).mappings().first()
    return None if row is None else _change(row)


def add_change(
    connection: Connection, change: GroupChange, persons: Sequence[ChangedPerson], jobs: Sequence[MemberJob]
) -> None:
    """Store an accepted change; the photos of its persons must be stored already."""
    row = {
        "id": change.id,
        "group_name": change.group,
        "kind": change.kind.value,
        "asked": change.request.as_stored(),
    }
    connection.execute(insert(GROUP_CHANGE), [row])
    rows = [
        {
            "change_id": change.id,
            "position": one.position,
            "person_id": one.person_id,
            "fields": fields_as_stored(one.fields),
            "photo_sha256": one.photo,
        }
        for one in persons
    ]
    if rows:
        connection.execute(insert(GROUP_CHANGE_PERSON), rows)
    members = [{"id": job.id, "change_id": change.id, "sn": job.sn, "applied": job.applied} for job in jobs]
    connection.execute(insert(GROUP_CHANGE_MEMBER), members)


def has_whole_changes(connection: Connection) -> bool:
    """Return whether there is an unfinished change that is about everything on a member."""
    return connection.execute(_ANY_CHANGE.where(_IS_WHOLE)).first() is not None


def has_jobs(connection: Connection, sn: str) -> bool:
    """Return whether an unfinished change is still to be applied to a terminal."""
    return connection.execute(select(_MEMBER.id).where(_MEMBER.sn == sn).limit(1)).first() is not None


def jobs(connection: Connection, sn: str) -> list[MemberJob]:
    """Return what unfinished changes still have to apply to a terminal, oldest first."""
    return _jobs(connection, _all_jobs().where(_MEMBER.sn == sn))


def whole_jobs(connection: Connection, sn: str) -> list[MemberJob]:
    """Return those of the jobs of a terminal that are about everything on it, oldest first."""
    return _jobs(connection, _all_jobs().where(_MEMBER.sn == sn, _IS_WHOLE))


def jobs_with(
    connection: Connection, sn: str, person_ids: Collection[str]
) -> list[tuple[MemberJob, Sequence[ChangedPerson]]]:
    """Return the jobs of a terminal for which these persons have not had their turn, oldest first, with the persons."""
    found: dict[int, tuple[MemberJob, list[ChangedPerson]]] = {}
    for ids in batches(sorted(person_ids)):
        query = _all_jobs().join(GROUP_CHANGE_PERSON, _PERSON.change_id == GROUP_CHANGE.c.id)
        query = query.add_columns(*(column for column in _PERSON if column.name != "change_id"))
        query = query.where(_MEMBER.sn == sn, _PERSON.person_id.in_(ids), _PERSON.position > _MEMBER.applied)
        for row in connection.execute(query.order_by(_PERSON.position)).mappings():
            found.setdefault(row["job_id"], (_job(row), []))[1].append(_person(row))
    return [found[job_id] for job_id in sorted(found)]


def newest_change_of(connection: Connection, person_ids: Collection[str]) -> int | None:
    """Return the last unfinished change of any of these persons, or of everything on its members."""
    newest = [connection.execute(select(func.max(GROUP_CHANGE.c.id)).where(_IS_WHOLE)).scalar()]
    for ids in batches(sorted(person_ids)):
        query = select(func.max(_PERSON.change_id)).where(_PERSON.person_id.in_(ids))
        newest.append(connection.execute(query).scalar())
    return max((one for one in newest if one is not None), default=None)


def next_jobs(connection: Connection, change_id: int, limit: int) -> list[MemberJob]:
    """Return the next members to which a change is to be applied."""
    return _jobs(connection, _all_jobs().where(_MEMBER.change_id == change_id).limit(limit))


def unfinished(connection: Connection) -> list[tuple[MemberJob, int]]:
    """Return what unfinished changes still have to apply to each terminal, with the number of persons."""
    rest = select(func.count()).where(_PERSON.change_id == _MEMBER.change_id, _PERSON.position > _MEMBER.applied)
    query = _all_jobs().add_columns(rest.scalar_subquery().label("rest"))
    return [(_job(row), row["rest"]) for row in connection.execute(query).mappings()]


def persons_after(connection: Connection, change_id: int, position: int, limit: int) -> list[ChangedPerson]:
    """Return the next persons of a change."""
    query = select(GROUP_CHANGE_PERSON).where(_PERSON.change_id == change_id, _PERSON.position > position)
    rows = connection.execute(query.order_by(_PERSON.position).limit(limit)).mappings()
    return [_person(row) for row in rows]


def put_applied(connection: Connection, job_ids: Collection[int], applied: int) -> None:
    """Store up to which person a change is applied to members."""
    for ids in batches(sorted(job_ids)):
        connection.execute(update(GROUP_CHANGE_MEMBER).where(_MEMBER.id.in_(ids)).values(applied=applied))


def drop_jobs(connection: Connection, job_ids: Collection[int]) -> None:
    """Delete members to which a change is applied."""
    for ids in batches(sorted(job_ids)):
        connection.execute(delete(GROUP_CHANGE_MEMBER).where(_MEMBER.id.in_(ids)))
        connection.execute(delete(MEMBERSHIP_DONE).where(MEMBERSHIP_DONE.c.job_id.in_(ids)))


def drop_change(connection: Connection, change_id: int) -> set[str]:
    """Delete a change that is applied to every member; return the photos of its persons."""
    photos = select(_PERSON.photo_sha256).where(_PERSON.change_id == change_id, _PERSON.photo_sha256.is_not(None))
    found = set(connection.execute(photos.distinct()).scalars())
    connection.execute(delete(GROUP_CHANGE_PERSON).where(_PERSON.change_id == change_id))
    connection.execute(delete(GROUP_CHANGE).where(GROUP_CHANGE.c.id == change_id))
    return found


def add_done(connection: Connection, job_id: int, person_ids: Collection[str]) -> None:
    """Note persons to which a change was applied on a member before their turn."""
    if person_ids:
        statement = insert_for(connection)(MEMBERSHIP_DONE).on_conflict_do_nothing()
        connection.execute(statement, [{"job_id": job_id, "person_id": person_id} for person_id in person_ids])


def done(connection: Connection, job_ids: Collection[int], person_ids: Collection[str]) -> dict[int, set[str]]:
    """Return by job those of the persons to which it was applied before their turn."""
    found: defaultdict[int, set[str]] = defaultdict(set)
    column = MEMBERSHIP_DONE.c
    for some in batches(sorted(job_ids)):
        for ids in batches(sorted(person_ids)):
            query = select(MEMBERSHIP_DONE).where(column.job_id.in_(some), column.person_id.in_(ids))
            for row in connection.execute(query):
                found[row.job_id].add(row.person_id)
    return found


def validity_on(
    connection: Connection, sns: Collection[str], person_ids: Collection[str]
) -> dict[tuple[str, str], tuple[str | None, str | None]]:
    """Return by SN and person which persons terminals should hold, with the stored `valid_from` and `valid_until`.

    To read whole entries takes five times as long.
    """
    entry, job = PERSON_ENTRY.c, PERSON_JOB.c
    is_dropped = exists().where(job.sn == entry.sn, job.drop_below > entry.revision)
    found: dict[tuple[str, str], tuple[str | None, str | None]] = {}
    for some in batches(sorted(sns)):
        for ids in batches(sorted(person_ids)):
            query = select(
                entry.sn,
                entry.person_id,
                entry.desired["valid_from"].as_string(),
                entry.desired["valid_until"].as_string(),
            ).where(entry.sn.in_(some), entry.person_id.in_(ids), entry.desired.is_not(None), ~is_dropped)
            for sn, person_id, valid_from, valid_until in connection.execute(query):
                found[sn, person_id] = (valid_from, valid_until)
    return found


def changed_since(connection: Connection, sns: Collection[str], person_ids: Collection[str], revision: int) -> set[str]:
    """Return the terminals on which one of the persons has changed after a revision."""
    entry = PERSON_ENTRY.c
    found: set[str] = set()
    for some in batches(sorted(sns)):
        query = select(entry.sn, entry.person_id).where(entry.sn.in_(some), entry.revision > revision)
        # With the persons as a condition, a database reads the entry of each person on each terminal.
        found.update(row.sn for row in connection.execute(query) if row.person_id in person_ids)
    return found


def _all_jobs() -> Select[tuple[object, ...]]:
    query = select(
        _MEMBER.id.label("job_id"), _MEMBER.sn, _MEMBER.applied, *(column for column in GROUP_CHANGE.c)
    ).select_from(GROUP_CHANGE_MEMBER.join(GROUP_CHANGE, and_(GROUP_CHANGE.c.id == _MEMBER.change_id)))
    return query.order_by(_MEMBER.id)


def _jobs(connection: Connection, query: Select[tuple[object, ...]]) -> list[MemberJob]:
    return [_job(row) for row in connection.execute(query).mappings()]


def _job(row: RowMapping) -> MemberJob:
    return MemberJob(id=row["job_id"], sn=row["sn"], change=_change(row), applied=row["applied"])


def _change(row: RowMapping) -> GroupChange:
    return GroupChange(
        id=row["id"],
        group=row["group_name"],
        kind=GroupChangeKind(row["kind"]),
        request=RequestContext.from_stored(row["asked"]),
    )


def _person(row: RowMapping) -> ChangedPerson:
    return ChangedPerson(
        position=row["position"],
        person_id=row["person_id"],
        fields=fields_from_stored(row["fields"]),
        photo=row["photo_sha256"],
    )
