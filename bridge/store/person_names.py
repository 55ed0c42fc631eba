"""The names of persons, for searches: plain functions that take a connection.

A table of its own has one row for each person and name. A search reads all of it: 0.02 s for 100,000 persons. Before,
it read the JSON of every entry of every terminal: 1.3 s for a million.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from sqlalchemy import ColumnElement, Connection, Engine, Table, and_, bindparam, delete, exists, func, select
from sqlalchemy.exc import DatabaseError

from bridge.model.person import Person
from bridge.store.direct import DirectStatement
from bridge.store.errors import NamesDamagedError, is_damage
from bridge.store.failure_messages import describe
from bridge.store.insertion import insert_in
from bridge.store.tables import GROUP_PERSON, PERSON_ENTRY, PERSON_NAME

PersonName = tuple[str, str]
"""Id and name of a person; the name is empty for a removal that a terminal has not confirmed."""

_COLUMN = PERSON_NAME.c

NAMES_DAMAGED = "names_damaged"
"""The name of a counter that is set from the damage of the table to its repair, and of an option of an engine whose
transactions leave the table alone."""


def name_of_person(person: Person) -> PersonName:
    """Return what searches find a person by. `stored_name` reads the same in SQL."""
    return person.id, person.name


def fold(person_id: str, name: str) -> str:
    """Return what a search compares with: id and name without upper case."""
    return f"{person_id}\n{name}".casefold()


def add_names(connection: Connection, names: Iterable[PersonName]) -> None:
    """Add names of persons that have an entry or are kept by a group."""
    rows = [{"person_id": one, "name": name, "folded": fold(one, name)} for one, name in sorted(set(names)) if one]
    if rows and not _is_left_alone(connection):
        with _damage_noticed():
            _ADD.run(connection, rows)


def drop_unused_names(connection: Connection, candidates: Collection[PersonName]) -> None:
    """Delete those of the names that no entry and no group has."""
    rows = [{"for_id": person_id, "for_name": name} for person_id, name in sorted(candidates)]
    if rows and not _is_left_alone(connection):
        with _damage_noticed():
            connection.execute(_DROP, rows)


def contains(connection: Connection, q: str) -> ColumnElement[bool]:
    """Return the condition that the id or the name contains a text, in upper or lower case."""
    function = func.instr if connection.dialect.name == "sqlite" else func.strpos
    return function(_COLUMN.folded, q.casefold()) > 0


def matches(connection: Connection, table: Table, q: str) -> ColumnElement[bool]:
    """Return the condition that the id or the name in a table of persons contains a text."""
    found = contains(connection, q)
    # Most rows fail the first condition, and the name in their JSON is not read.
    same = and_(_COLUMN.person_id == table.c.person_id, _COLUMN.name == stored_name(table))
    return and_(table.c.person_id.in_(select(_COLUMN.person_id).where(found)), exists().where(same, found))


def stored_name(table: Table) -> ColumnElement[str]:
    """Return the name in a row of a table of persons, as `name_of_person` does."""
    return func.coalesce(table.c.desired["name"].as_string(), "")


def leave_alone(engine: Engine) -> None:
    """Let all later transactions of an engine leave the table alone."""
    engine.update_execution_options(**{NAMES_DAMAGED: True})


def _is_left_alone(connection: Connection) -> bool:
    # A connection that was opened before does not have the option.
    return bool(connection.engine.get_execution_options().get(NAMES_DAMAGED))


@contextmanager
def _damage_noticed() -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        if is_damage(error):
            raise NamesDamagedError(describe(error)) from None
        raise


_ADD = DirectStatement(
    lambda dialect: insert_in(dialect)(PERSON_NAME).on_conflict_do_nothing(), ["person_id", "name", "folded"]
)


def _has(table: Table) -> ColumnElement[bool]:
    return exists().where(table.c.person_id == bindparam("for_id"), stored_name(table) == bindparam("for_name"))


_DROP = delete(PERSON_NAME).where(
    _COLUMN.person_id == bindparam("for_id"),
    _COLUMN.name == bindparam("for_name"),
    ~_has(PERSON_ENTRY),
    ~_has(GROUP_PERSON),
)
