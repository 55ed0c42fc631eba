"""Queries that show persons: pages and search, for the HTTP API and the page. They run with `Database.read`."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, and_, case, exists, func, or_, select

from bridge.model.person import Person
from bridge.model.person_entry import DeliveryState, GroupPerson, PersonEntry
from bridge.model.person_summary import PersonEverywhere, PersonFilter, PersonSummary
from bridge.model.terminal import PersonCounts
from bridge.store.group_queries import group_persons_of, groups_of_person, is_kept_by_group
from bridge.store.person_queries import batches, entries_of
from bridge.store.tables import EVERYONE, GROUP_PERSON, PERSON_ENTRY, PERSON_JOB

_ENTRY = PERSON_ENTRY.c


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
    conditions = [*_kept(connection), *_wanted(connection, wanted)]
    column = _ENTRY.person_id
    after = EVERYONE if after is None else after
    only_in_groups = [] if wanted.delivery is not None else _only_in_groups(connection, wanted.q)
    query = select(column).where(column != EVERYONE, *conditions).distinct()
    if wanted.q is not None:
        # A search reads every row. It does so once, for the page and for the number of persons.
        ids = list(connection.execute(query).scalars())
        total = len(ids)
        ids = [one for one in ids if one > after]
    else:
        count = select(func.count(column.distinct())).where(column != EVERYONE, *conditions)
        total = connection.execute(count).scalar_one()
        ids = list(connection.execute(query.where(column > after).order_by(column).limit(limit)).scalars())
    ids = sorted([*ids, *(one for one in only_in_groups if one > after)])[:limit]
    return _summaries(connection, ids), total + len(only_in_groups)


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
        conditions.append(_matches(connection, GROUP_PERSON, q))
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


def _only_in_groups(connection: Connection, q: str | None) -> list[str]:
    """Return the persons that groups keep and no terminal has: those of groups without members."""
    has_entry = exists().where(_ENTRY.person_id == GROUP_PERSON.c.person_id, *_kept(connection))
    query = select(GROUP_PERSON.c.person_id).where(is_kept_by_group(), ~has_entry)
    if q is not None:
        query = query.where(_matches(connection, GROUP_PERSON, q))
    return list(connection.execute(query.distinct()).scalars())


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
        conditions.append(_matches(connection, PERSON_ENTRY, wanted.q))
    return conditions


def _matches(connection: Connection, table: Table, q: str) -> ColumnElement[bool]:
    """Return the condition that the id or the name in a table of persons contains a text.

    Neither SQLite nor PostgreSQL with every collation knows the upper and lower case of other letters than ASCII.
    """
    operator, pattern = ("GLOB", _glob(q)) if connection.dialect.name == "sqlite" else ("~", _regular_expression(q))
    name = table.c.desired["name"].as_string()
    return or_(table.c.person_id.op(operator)(pattern), name.op(operator)(pattern))


def _cases(character: str) -> str:
    """Return a letter in upper and lower case; another character alone."""
    forms = {character, character.lower(), character.upper(), character.title()}
    return "".join(sorted(form for form in forms if len(form) == 1))


def _glob(text: str) -> str:
    """Return SQLite's GLOB pattern for all that contains a text."""
    parts = []
    for character in text:
        cases = _cases(character)
        parts.append(f"[{cases}]" if len(cases) > 1 or character in "*?[" else character)
    return f"*{''.join(parts)}*"


def _regular_expression(text: str) -> str:
    """Return PostgreSQL's regular expression for all that contains a text."""
    parts = []
    for character in text:
        cases = _cases(character)
        parts.append(f"[{cases}]" if len(cases) > 1 else character if character.isalnum() else f"\\{character}")
    return "".join(parts)


def _count(condition: ColumnElement[Any]) -> ColumnElement[int]:
    return func.sum(case((condition, 1), else_=0))
