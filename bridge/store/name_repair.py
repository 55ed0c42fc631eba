"""Repairs the table of names for searches, which can be built from the persons again.

A transaction that meets a damaged part of this table fails, and SQLite then refuses all its later statements. The store
therefore runs it again without the table (`bridge.store.database`), and the persons are stored. The next start of a
bridge replaces the table by an empty one, and fills it in the background.
"""

import asyncio
import logging
import sqlite3
from pathlib import Path

from sqlalchemy import Connection, select, text
from sqlalchemy.schema import CreateTable

from bridge.store.counters import put_counter, read_counter
from bridge.store.database import Database
from bridge.store.engine import store_file
from bridge.store.errors import mapped_errors
from bridge.store.person_names import NAMES_DAMAGED, add_names, stored_name
from bridge.store.tables import EVERYONE, GROUP_PERSON, PERSON_ENTRY, PERSON_NAME
from bridge.store.threads import run_in_thread

_LOGGER = logging.getLogger(__name__)

_DAMAGED = 1
_BEING_FILLED = 2
"""Values of the counter `NAMES_DAMAGED`."""

_PERSONS = 50
"""Persons in one transaction that adds their names; each person may have an entry on many terminals."""

_PAUSE_SECONDS = 0.005
"""Pause between two transactions, for other changes."""


async def are_damaged(database: Database) -> bool:
    """Return whether searches miss persons because of a damage. Raises UnavailableError."""
    return await database.read(read_counter, NAMES_DAMAGED) is not None


async def replace_damaged_table(database: Database) -> None:
    """Put an empty table in the place of a damaged one; to be called before anything else uses the store.

    Raises:
        UnavailableError: the store cannot be changed now.
    """
    if await database.read(read_counter, NAMES_DAMAGED) != _DAMAGED:
        return
    url = database.engine.url
    file = store_file(url.render_as_string(hide_password=False))
    if file is None:
        await database.write(_truncate)
    else:
        statement = str(CreateTable(PERSON_NAME).compile(dialect=database.engine.dialect))
        with mapped_errors():
            await run_in_thread(_replace_in_file, file, statement)
    _LOGGER.warning("the damaged table of names for searches is replaced, and filled again in the background")


async def refill(database: Database) -> None:
    """Add the names of all persons to the replaced table, in short transactions. Raises UnavailableError."""
    if await database.read(read_counter, NAMES_DAMAGED) != _BEING_FILLED:
        return
    after: str | None = EVERYONE
    while after is not None:
        after = await database.write(_add_some, after)
        await asyncio.sleep(_PAUSE_SECONDS)
    if await database.write(_end_refill):
        _LOGGER.info("lists and searches find all persons again")


def _end_refill(connection: Connection) -> bool:
    if read_counter(connection, NAMES_DAMAGED) != _BEING_FILLED:
        # It was damaged again meanwhile.
        return False
    put_counter(connection, NAMES_DAMAGED, None)
    return True


def _truncate(connection: Connection) -> None:
    connection.execute(text(f"TRUNCATE {PERSON_NAME.name}"))
    put_counter(connection, NAMES_DAMAGED, _BEING_FILLED)


def _replace_in_file(file: Path, create: str) -> None:
    """Let the table's name stand for a new, empty one. The old pages stay unused: SQLite cannot drop damaged ones."""
    name, other = PERSON_NAME.name, f"{PERSON_NAME.name}_new"
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(create.replace(f"CREATE TABLE {name}", f"CREATE TABLE {other}"))
        # https://sqlite.org/pragma.html#pragma_writable_schema
        connection.execute("PRAGMA writable_schema = ON")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (other,)).fetchone()
        connection.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = ?", (root, name))
        connection.execute("DELETE FROM sqlite_master WHERE name = ?", (other,))
        (version,) = connection.execute("PRAGMA schema_version").fetchone()
        # Lets all connections read the schema again.
        connection.execute(f"PRAGMA schema_version = {version + 1}")
        connection.execute("UPDATE counter SET value = ? WHERE name = ?", (_BEING_FILLED, NAMES_DAMAGED))
        connection.execute("COMMIT")
    finally:
        connection.close()


def _add_some(connection: Connection, after: str) -> str | None:
    """Add the names of the next persons; return the last one, None if none is left."""
    ids: set[str] = set()
    for table in (PERSON_ENTRY, GROUP_PERSON):
        query = select(table.c.person_id).where(table.c.person_id > after).distinct()
        ids.update(connection.execute(query.order_by(table.c.person_id).limit(_PERSONS)).scalars())
    some = sorted(ids)[:_PERSONS]
    for table in (PERSON_ENTRY, GROUP_PERSON):
        names = select(table.c.person_id, stored_name(table)).where(table.c.person_id.in_(some)).distinct()
        add_names(connection, [(row[0], row[1]) for row in connection.execute(names)])
    return some[-1] if some else None
