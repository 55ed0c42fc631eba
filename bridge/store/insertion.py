"""INSERT with ON CONFLICT, which is the same in both dialects, and lists that fit into one statement."""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Table

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql, sqlite

_MAX_PARAMETERS = 500
"""Values in one `IN (…)`: far below the limit of any database."""


def insert_for(connection: Connection) -> Callable[[Table], "sqlite.Insert | postgresql.Insert"]:
    """Return the constructor of an INSERT with ON CONFLICT."""
    return insert_in(connection.dialect.name)


def insert_in(dialect: str) -> Callable[[Table], "sqlite.Insert | postgresql.Insert"]:
    """Return the constructor of an INSERT with ON CONFLICT in a dialect."""
    # The engine has imported its dialect. To import the other one too takes a tenth of all imports of the bridge.
    constructor: Callable[[Table], sqlite.Insert | postgresql.Insert]
    constructor = import_module(f"sqlalchemy.dialects.{dialect}").insert
    return constructor


def batches(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Yield the values in lists that fit into one `IN (…)`."""
    for start in range(0, len(values), _MAX_PARAMETERS):
        yield values[start : start + _MAX_PARAMETERS]
