"""Queries that show persons: pages and search, for the HTTP API and the page. They run with `Database.read`."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, exists, func, literal_column, or_, select

from bridge.model.person import Person
from bridge.model.person_entry import DeliveryState, GroupPerson, PersonEntry
from bridge.model.person_summary import PersonEverywhere, PersonFilter, PersonSummary
from bridge.model.terminal import PersonCounts
from bridge.store.group_queries import group_persons_of, group_removals, groups_of_person, is_kept_by_group
from bridge.store.insertion import batches
from bridge.store.person_names import contains, matches
from bridge.store.person_queries import entries_of
from bridge.store.tables import EVERYONE, GROUP_PERSON, PERSON_ENTRY, PERSON_JOB, PERSON_NAME

_ENTRY = PERSON_ENTRY.c
_NAME = PERSON_NAME.c

_IS_UNCONFIRMED = _ENTRY.delivery != literal_column("'confirmed'")
"""The condition of the index, without a parameter: only then does a database use the index."""


def terminal_page(
    connection: Connection, sn: str, wanted: PersonFilter, after: str | None, limit: int
) -> tuple[list[PersonEntry], int]:
    """Return persons of a terminal by id, the removal of everyone first.

    Args:
        connection: a connection.
        sn: the terminal.
        wanted: the persons to return.
        after: the id after which the page begins, empty for the removal of everyone; None for the first page.
        limit: the maximum number of entries.

    Returns:
        The entries, and the number of all wanted entries.
    """
    conditions = [_ENTRY.sn == sn, *_kept(connection), *_wanted(connection, wanted)]
    total = connection.execute(select(func.count()).select_from(PERSON_ENTRY).where(*conditions)).scalar_one()
    if after is not None:
        conditions.append(_ENTRY.person_id > after)
    query = select(PERSON_ENTRY).where(*conditions).order_by(_ENTRY.person_id).limit(limit)
    return entries_of(connection, query), total


def person_page(
    connection: Connection, wanted: PersonFilter, after: str | None, limit: int
) -> tuple[list[PersonSummary], int]:
    """Return persons over all terminals by id.

    Args:
        connection: a connection.
        wanted: the persons to return.
        after: the id after which the page begins; None for the first page.
        limit: the maximum number of persons.

    Returns:
        The persons, and the number of all wanted persons.
    """
    column, conditions = _persons(connection, wanted)
    total = connection.execute(select(func.count(column.distinct())).where(*conditions)).scalar_one()
    query = select(column).distinct().where(*conditions, column > (EVERYONE if after is None else after))
    ids = connection.execute(query.order_by(column).limit(limit)).scalars().all()
    return _summaries(connection, ids), total


def _persons(connection: Connection, wanted: PersonFilter) -> tuple[ColumnElement[str], Sequence[ColumnElement[bool]]]:
    """Return the column of ids, and the conditions, of the persons to return; a person may have several rows."""
    kept = _kept(connection)
    if wanted.delivery in (DeliveryState.PENDING, DeliveryState.REFUSED):
        # These are few, and have an index.
        conditions = [_ENTRY.person_id != EVERYONE, _IS_UNCONFIRMED, _ENTRY.delivery == wanted.delivery.value, *kept]
        if wanted.q is not None:
            found = select(_NAME.person_id).where(contains(connection, wanted.q))
            conditions.append(_ENTRY.person_id.in_(found))
        return _ENTRY.person_id, conditions
    conditions = [] if wanted.q is None else [contains(connection, wanted.q)]
    on_terminal = exists().where(_ENTRY.person_id == _NAME.person_id, *kept)
    if wanted.delivery is not None:
        conditions.append(on_terminal.where(_ENTRY.delivery == wanted.delivery.value))
    elif kept or group_removals(connection):
        # Persons whose rows are not deleted yet still have their names.
        in_group = exists().where(GROUP_PERSON.c.person_id == _NAME.person_id, is_kept_by_group())
        conditions.append(or_(on_terminal, in_group))
    return _NAME.person_id, conditions


def group_page(
    connection: Connection, group: str, q: str | None, after: str, limit: int
) -> tuple[list[GroupPerson], int]:
    """Return persons that a group keeps by id, and the number of all that match.

    Args:
        connection: a connection.
        group: the group.
        q: only those whose id or name contains this text, in upper or lower case.
        after: the id after which the page begins.
        limit: the maximum number of persons.
    """
    conditions = [GROUP_PERSON.c.group_name == group, is_kept_by_group()]
    if q is not None:
        conditions.append(matches(connection, GROUP_PERSON, q))
    total = connection.execute(select(func.count()).select_from(GROUP_PERSON).where(*conditions)).scalar_one()
    query = select(GROUP_PERSON).where(*conditions, GROUP_PERSON.c.person_id > after)
    return group_persons_of(connection, query.order_by(GROUP_PERSON.c.person_id).limit(limit)), total


def person_everywhere(connection: Connection, person_id: str, after: str, limit: int) -> PersonEverywhere | None:
    """Return a person with a page of the terminals by SN; None if no terminal and no group has the person.

    Args:
        connection: a connection.
        person_id: the person.
        after: the SN after which the page begins.
        limit: the maximum number of terminals.
    """
    summary = next(iter(_summaries(connection, [person_id])), None)
    if summary is None:
        return None
    conditions = [_ENTRY.person_id == person_id, *_kept(connection)]
    total = connection.execute(select(func.count()).select_from(PERSON_ENTRY).where(*conditions)).scalar_one()
    query = select(PERSON_ENTRY).where(*conditions, _ENTRY.sn > after).order_by(_ENTRY.sn).limit(limit + 1)
    entries = entries_of(connection, query)
    return PersonEverywhere(
        summary=summary,
        entries=entries[:limit],
        total=total,
        more=len(entries) > limit,
        groups=groups_of_person(connection, person_id),
    )


def _summaries(connection: Connection, ids: Sequence[str]) -> list[PersonSummary]:
    """Return the summaries of these persons, in the same order."""
    kept = _kept(connection)
    found: dict[str, PersonSummary] = {}
    for batch in batches(ids):
        persons = _newest_values(connection, batch, kept)
        query = (
            select(
                _ENTRY.person_id,
                _count(_ENTRY.held).label("desired"),
                _count(and_(_ENTRY.held, _ENTRY.delivery == DeliveryState.CONFIRMED.value)).label("confirmed"),
                _count(_ENTRY.delivery == DeliveryState.PENDING.value).label("pending"),
                _count(_ENTRY.delivery == DeliveryState.REFUSED.value).label("refused"),
                func.max(_ENTRY.changed_at).label("changed_at"),
            )
            .where(_ENTRY.person_id.in_(batch), *kept)
            .group_by(_ENTRY.person_id)
        )
        for row in connection.execute(query):
            found[row.person_id] = PersonSummary(
                id=row.person_id,
                person=persons.get(row.person_id),
                counts=PersonCounts(row.desired, row.confirmed, row.pending, row.refused),
                changed_at=row.changed_at,
            )
    for person_id in ids:
        if person_id not in found and (groups := groups_of_person(connection, person_id)):
            newest = max(groups, key=lambda kept: kept.revision)
            found[person_id] = PersonSummary(
                id=person_id, person=newest.person, counts=PersonCounts(), changed_at=newest.changed_at
            )
    return [found[one] for one in ids if one in found]


def _newest_values(
    connection: Connection, ids: Sequence[str], kept: Sequence[ColumnElement[bool]]
) -> dict[str, Person]:
    """Return for each of the persons the values of the newest change that is not a removal."""
    newest = (
        select(_ENTRY.person_id, func.max(_ENTRY.revision).label("revision"))
        .where(_ENTRY.person_id.in_(ids), _ENTRY.desired.is_not(None), *kept)
        .group_by(_ENTRY.person_id)
        .subquery()
    )
    query = select(PERSON_ENTRY).join(
        newest, and_(_ENTRY.person_id == newest.c.person_id, _ENTRY.revision == newest.c.revision)
    )
    return {one.person.id: one.person for one in entries_of(connection, query) if one.person is not None}


def _kept(connection: Connection) -> list[ColumnElement[bool]]:
    """Return the conditions that leave out the entries that a removal of everyone has yet to delete.

    The few running removals are read first: a subquery would cost more than the rest for a million entries.
    """
    query = select(PERSON_JOB.c.sn, PERSON_JOB.c.drop_below).where(PERSON_JOB.c.drop_below.is_not(None))
    jobs = connection.execute(query).all()
    return [~and_(_ENTRY.sn == job.sn, _ENTRY.revision < job.drop_below) for job in jobs]


def _wanted(connection: Connection, wanted: PersonFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.delivery is not None:
        conditions.append(_ENTRY.delivery == wanted.delivery.value)
    if wanted.q is not None:
        conditions.append(matches(connection, PERSON_ENTRY, wanted.q))
    return conditions


def _count(condition: ColumnElement[Any]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))
