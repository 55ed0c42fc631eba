"""Queries about the persons that groups keep, memberships, and their unfinished changes: plain functions."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, Select, delete, exists, func, insert, select, update

from bridge.model.person import Person
from bridge.model.person_entry import GroupPerson, MembershipJob
from bridge.store.database import Database
from bridge.store.insertion import batches, insert_for
from bridge.store.person_names import add_names, name_of_person
from bridge.store.tables import (
    GROUP_MEMBER,
    GROUP_PERSON,
    GROUP_REMOVAL,
    MEMBERSHIP_DONE,
    MEMBERSHIP_JOB,
    PERSON_ENTRY,
)

_ANY_MEMBERSHIP_JOB = select(MEMBERSHIP_JOB.c.id).limit(1)
"""Built once: most transactions on persons run it."""

# The persons that groups keep


def kept_persons(connection: Connection, group: str, person_ids: Collection[str]) -> dict[str, GroupPerson]:
    """Return those of the persons that a group keeps, by id."""
    found: dict[str, GroupPerson] = {}
    for ids in batches(sorted(person_ids)):
        query = select(GROUP_PERSON).where(
            GROUP_PERSON.c.group_name == group, GROUP_PERSON.c.person_id.in_(ids), _is_kept()
        )
        found |= {row["person_id"]: _read(row) for row in connection.execute(query).mappings()}
    return found


def kept_page(connection: Connection, group: str, after: str, limit: int) -> list[GroupPerson]:
    """Return the persons of a group whose id is greater than `after`, by id."""
    query = select(GROUP_PERSON).where(GROUP_PERSON.c.group_name == group, GROUP_PERSON.c.person_id > after, _is_kept())
    rows = connection.execute(query.order_by(GROUP_PERSON.c.person_id).limit(limit)).mappings()
    return [_read(row) for row in rows]


async def kept_pages(database: Database, group: str, limit: int) -> AsyncIterator[Sequence[GroupPerson]]:
    """Yield the persons of a group by id, up to `limit` at a time. Raises UnavailableError."""
    after = ""
    while persons := await database.read(kept_page, group, after, limit):
        yield persons
        after = persons[-1].person.id


def groups_of_person(connection: Connection, person_id: str) -> list[GroupPerson]:
    """Return a person as each group keeps them, by name of the group."""
    query = select(GROUP_PERSON).where(GROUP_PERSON.c.person_id == person_id, _is_kept())
    return [_read(row) for row in connection.execute(query.order_by(GROUP_PERSON.c.group_name)).mappings()]


def group_sizes(connection: Connection, groups: Collection[str] | None = None) -> dict[str, int]:
    """Return the number of persons of each group that keeps any, or of those among `groups`."""
    query = select(GROUP_PERSON.c.group_name, func.count().label("number")).where(_is_kept())
    query = query.group_by(GROUP_PERSON.c.group_name)
    if groups is not None:
        query = query.where(GROUP_PERSON.c.group_name.in_(groups))
    return {row.group_name: row.number for row in connection.execute(query)}


def keeps_persons(connection: Connection, group: str) -> bool:
    """Return whether a group keeps any person."""
    query = select(GROUP_PERSON.c.person_id).where(GROUP_PERSON.c.group_name == group, _is_kept())
    return connection.execute(query.limit(1)).first() is not None


def kept_expired(connection: Connection, before: datetime, limit: int) -> list[tuple[str, str]]:
    """Return group and id of the kept persons whose `valid_until` is before that time."""
    query = select(GROUP_PERSON.c.group_name, GROUP_PERSON.c.person_id).where(
        GROUP_PERSON.c.valid_until < before, _is_kept()
    )
    rows = connection.execute(query.order_by(GROUP_PERSON.c.valid_until).limit(limit))
    return [(row.group_name, row.person_id) for row in rows]


def put_kept(connection: Connection, persons: Collection[GroupPerson]) -> None:
    """Add or replace persons of groups; their photos must be stored already."""
    if not persons:
        return
    statement = insert_for(connection)(GROUP_PERSON)
    replaced = {column.name: statement.excluded[column.name] for column in GROUP_PERSON.c if not column.primary_key}
    connection.execute(
        statement.on_conflict_do_update(index_elements=["group_name", "person_id"], set_=replaced),
        [
            {
                "group_name": one.group,
                "person_id": one.person.id,
                "revision": one.revision,
                "desired": one.person.as_stored(),
                "photo_sha256": one.person.photo,
                "valid_until": one.person.expires_at,
                "changed_at": one.changed_at,
            }
            for one in persons
        ],
    )
    add_names(connection, (name_of_person(one.person) for one in persons))


def drop_kept(connection: Connection, group: str, person_ids: Collection[str]) -> None:
    """Delete persons of a group."""
    for ids in batches(sorted(person_ids)):
        connection.execute(
            delete(GROUP_PERSON).where(GROUP_PERSON.c.group_name == group, GROUP_PERSON.c.person_id.in_(ids))
        )


def group_persons_of(connection: Connection, query: Select[Any]) -> list[GroupPerson]:
    """Return the persons that a query of the groups' persons selects."""
    return [_read(row) for row in connection.execute(query).mappings()]


def is_kept_by_group() -> ColumnElement[bool]:
    """Return the condition that leaves out the persons that a removal of everyone has yet to delete."""
    return _is_kept()


# The removal of everyone from a group


def add_group_removal(connection: Connection, group: str, below: int) -> None:
    """Let the group's persons of lower revisions count as removed."""
    connection.execute(insert(GROUP_REMOVAL).values(group_name=group, below=below))


def group_removals(connection: Connection) -> list[tuple[str, int]]:
    """Return the groups with removed persons that are not deleted yet, and below which revision they are."""
    rows = connection.execute(select(GROUP_REMOVAL).order_by(GROUP_REMOVAL.c.below))
    return [(row.group_name, row.below) for row in rows]


def drop_removed(connection: Connection, group: str, below: int, limit: int) -> list[Person]:
    """Delete up to `limit` removed persons of a group, and return them."""
    query = select(GROUP_PERSON).where(GROUP_PERSON.c.group_name == group, GROUP_PERSON.c.revision < below)
    persons = [one.person for one in group_persons_of(connection, query.order_by(GROUP_PERSON.c.revision).limit(limit))]
    drop_kept(connection, group, [person.id for person in persons])
    return persons


def drop_group_removal(connection: Connection, group: str, below: int) -> None:
    """Delete the note of a removal whose persons are deleted."""
    connection.execute(delete(GROUP_REMOVAL).where(GROUP_REMOVAL.c.group_name == group, GROUP_REMOVAL.c.below == below))


# Memberships


def memberships(connection: Connection, sns: Collection[str] | None = None) -> dict[str, set[str]]:
    """Return the groups of all terminals that have any, or of those among `sns`."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    query = select(GROUP_MEMBER)
    queries = [query] if sns is None else [query.where(GROUP_MEMBER.c.sn.in_(some)) for some in batches(sorted(sns))]
    for one in queries:
        for row in connection.execute(one):
            found[row.sn].add(row.group_name)
    return dict(found)


def members(connection: Connection, group: str) -> list[str]:
    """Return the terminals of a group by SN, as the bridge has stored them."""
    query = select(GROUP_MEMBER.c.sn).where(GROUP_MEMBER.c.group_name == group).order_by(GROUP_MEMBER.c.sn)
    return list(connection.execute(query).scalars())


def change_memberships(connection: Connection, sn: str, left: Collection[str], joined: Iterable[str]) -> None:
    """Store that a terminal left and joined groups."""
    if left:
        is_left = GROUP_MEMBER.c.group_name.in_(sorted(left))
        connection.execute(delete(GROUP_MEMBER).where(GROUP_MEMBER.c.sn == sn, is_left))
    if rows := [{"sn": sn, "group_name": group} for group in joined]:
        connection.execute(insert(GROUP_MEMBER), rows)


def has_group_access(connection: Connection, sn: str) -> bool:
    """Return whether a terminal holds a person through anything else than its own changes only."""
    query = select(PERSON_ENTRY.c.sn).where(PERSON_ENTRY.c.sn == sn, PERSON_ENTRY.c.access.is_not(None))
    return connection.execute(query.limit(1)).first() is not None


# Unfinished changes of memberships


def has_membership_jobs(connection: Connection) -> bool:
    """Return whether there is any unfinished change of memberships."""
    return connection.execute(_ANY_MEMBERSHIP_JOB).first() is not None


def membership_jobs(connection: Connection, sns: Collection[str] | None = None) -> list[MembershipJob]:
    """Return the unfinished changes of memberships, oldest first: all, or those of the terminals `sns`."""
    query = select(MEMBERSHIP_JOB).order_by(MEMBERSHIP_JOB.c.id)
    queries = [query] if sns is None else [query.where(MEMBERSHIP_JOB.c.sn.in_(some)) for some in batches(sorted(sns))]
    return [
        MembershipJob(
            id=row["id"],
            sn=row["sn"],
            left=frozenset(row["left_groups"]),
            joined=frozenset(row["joined_groups"]),
            left_after=row["left_after"],
            joined_after=row["joined_after"],
        )
        for one in queries
        for row in connection.execute(one).mappings()
    ]


def add_membership_job(connection: Connection, job: MembershipJob) -> None:
    """Store a change of memberships until it is applied to every person."""
    connection.execute(
        insert(MEMBERSHIP_JOB).values(
            id=job.id,
            sn=job.sn,
            left_groups=sorted(job.left),
            joined_groups=sorted(job.joined),
            left_after=job.left_after,
            joined_after=job.joined_after,
        )
    )


def put_membership_progress(connection: Connection, job: MembershipJob) -> None:
    """Store how far a change of memberships is applied."""
    values = {"left_after": job.left_after, "joined_after": job.joined_after}
    connection.execute(update(MEMBERSHIP_JOB).where(MEMBERSHIP_JOB.c.id == job.id).values(values))


def drop_membership_jobs(connection: Connection, job_ids: Collection[int]) -> None:
    """Delete changes of memberships that are applied to every person, or no longer needed."""
    for ids in batches(sorted(job_ids)):
        connection.execute(delete(MEMBERSHIP_JOB).where(MEMBERSHIP_JOB.c.id.in_(ids)))
        connection.execute(delete(MEMBERSHIP_DONE).where(MEMBERSHIP_DONE.c.job_id.in_(ids)))


def add_done(connection: Connection, job: MembershipJob, person_ids: Collection[str]) -> None:
    """Note persons to which a change of memberships was applied before their turn."""
    if person_ids:
        statement = insert_for(connection)(MEMBERSHIP_DONE).on_conflict_do_nothing()
        connection.execute(statement, [{"job_id": job.id, "person_id": person_id} for person_id in person_ids])


def done(connection: Connection, job: MembershipJob, person_ids: Collection[str]) -> set[str]:
    """Return those of the persons to which a change of memberships was applied before their turn."""
    found: set[str] = set()
    for ids in batches(sorted(person_ids)):
        query = select(MEMBERSHIP_DONE.c.person_id).where(
            MEMBERSHIP_DONE.c.job_id == job.id, MEMBERSHIP_DONE.c.person_id.in_(ids)
        )
        found.update(connection.execute(query).scalars())
    return found


def to_leave(connection: Connection, job: MembershipJob, limit: int) -> list[str]:
    """Return the next persons of the terminal that it holds through a group, by id; of others nothing changes."""
    column = PERSON_ENTRY.c
    query = select(column.person_id).where(
        column.sn == job.sn, column.person_id > job.left_after, column.access.is_not(None)
    )
    return list(connection.execute(query.order_by(column.person_id).limit(limit)).scalars())


def to_join(connection: Connection, job: MembershipJob, limit: int) -> list[tuple[str, int]]:
    """Return id and revision of the next persons that the joined groups keep, in the order of their last change."""
    column = GROUP_PERSON.c
    found: list[tuple[str, int]] = []
    # One query for each group: a single one would sort all that is left of the groups for each batch.
    for group in sorted(job.joined):
        query = select(column.person_id, column.revision).where(
            column.group_name == group,
            column.revision > job.joined_after,
            column.revision < job.id,
            _is_kept(job.id),
        )
        rows = connection.execute(query.order_by(column.revision).limit(limit))
        found += [(row.person_id, row.revision) for row in rows]
    return sorted(found, key=lambda one: one[1])[:limit]


def joining(
    connection: Connection, job: MembershipJob, person_ids: Collection[str]
) -> Mapping[str, Sequence[GroupPerson]]:
    """Return, for those of the persons that the terminal has yet to get, what the joined groups keep of them."""
    found: defaultdict[str, list[GroupPerson]] = defaultdict(list)
    column = GROUP_PERSON.c
    is_done = exists().where(MEMBERSHIP_DONE.c.job_id == job.id, MEMBERSHIP_DONE.c.person_id == column.person_id)
    for ids in batches(sorted(person_ids)):
        query = select(GROUP_PERSON).where(
            column.group_name.in_(sorted(job.joined)), column.person_id.in_(ids), _is_kept(job.id), ~is_done
        )
        for row in connection.execute(query).mappings():
            # As a condition of the query, it makes SQLite read all persons of the group by the index of revisions: the
            # 100,000 persons of a group then took a terminal that joins six times as long.
            if row["revision"] < job.id:
                found[row["person_id"]].append(_read(row))
    # A person of several joined groups had their turn with the newest change.
    return {
        person_id: kept for person_id, kept in found.items() if max(one.revision for one in kept) > job.joined_after
    }


def _read(row: RowMapping) -> GroupPerson:
    return GroupPerson(
        group=row["group_name"],
        revision=row["revision"],
        person=Person.from_stored(row["desired"]),
        changed_at=row["changed_at"],
    )


def _is_kept(at: int | None = None) -> ColumnElement[bool]:
    """Exclude the persons that a removal of everyone has yet to delete.

    Args:
        at: the revision before which the removal came; None: any removal counts.
    """
    removal = GROUP_REMOVAL.c
    is_removed = exists().where(
        removal.group_name == GROUP_PERSON.c.group_name, removal.below > GROUP_PERSON.c.revision
    )
    return ~(is_removed if at is None else is_removed.where(removal.below < at))
