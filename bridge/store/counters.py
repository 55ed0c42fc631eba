"""Numbers in the store that have a name: plain functions that take a connection."""

from sqlalchemy import Connection, delete, insert, select

from bridge.store.tables import COUNTER


def read_counter(connection: Connection, name: str) -> int | None:
    """Return the value of a counter; None if it is not set."""
    value: int | None = connection.execute(select(COUNTER.c.value).where(COUNTER.c.name == name)).scalar()
    return value


def put_counter(connection: Connection, name: str, value: int | None) -> None:
    """Set a counter; with None, delete it."""
    connection.execute(delete(COUNTER).where(COUNTER.c.name == name))
    if value is not None:
        connection.execute(insert(COUNTER).values(name=name, value=value))
