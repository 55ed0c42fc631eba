"""Statements that run on SQLite's driver without SQLAlchemy's execution.

While a transaction waits for the disk, other code takes the place of SQLAlchemy's in the processor's caches. The first
execution of a statement after that takes 0.26 ms of processor time with SQLAlchemy, and 0.05 ms with the driver
(measured). So the statements of a person change use this module. SQLAlchemy still compiles them and converts their
values, and it runs them on PostgreSQL.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import Connection, Delete, Insert, Select, Update
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

Statement = Select[Any] | Insert | Update | Delete

Values = Mapping[str, Any]
"""The values of a statement's parameters by name."""


class DirectStatement:
    """A statement that is built and compiled once. A parameter of it is one value, not a list for `IN`."""

    def __init__(self, build: Callable[[str], Statement], columns: Sequence[str] = ()) -> None:
        """Begin with nothing built.

        Args:
            build: returns the statement for the dialect of that name.
            columns: those that an INSERT without VALUES gets.
        """
        self._build = build
        self._columns = columns
        self._compiled: _Compiled | None = None

    def rows(self, connection: Connection, values: Values) -> Sequence[Any]:
        """Run the statement in a transaction, and return its rows, each in the order of its columns."""
        compiled = self._compiled_for(connection.dialect)
        if not _is_direct(connection):
            return connection.execute(compiled.statement, values).all()
        return compiled.rows(connection, values)

    def mappings(self, connection: Connection, values: Values) -> Sequence[Mapping[str, Any]]:
        """Run the statement in a transaction, and return its rows by column."""
        compiled = self._compiled_for(connection.dialect)
        if not _is_direct(connection):
            found = connection.execute(compiled.statement, values).mappings()
            return [{str(key): value for key, value in row.items()} for row in found]
        return [dict(zip(compiled.names, row, strict=True)) for row in compiled.rows(connection, values)]

    def run(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Run a statement without a result in a transaction, once for each row of values."""
        if not rows:
            return
        compiled = self._compiled_for(connection.dialect)
        if not _is_direct(connection):
            connection.execute(compiled.statement, rows)
            return
        for values in rows:
            compiled.run(connection, values)

    def insert(self, connection: Connection, values: Values) -> int:
        """Insert a row in a transaction, and return the id that the store has given it."""
        compiled = self._compiled_for(connection.dialect)
        if not _is_direct(connection):
            (key,) = connection.execute(compiled.statement, values).inserted_primary_key or (0,)
            return int(key)
        return compiled.run(connection, values).lastrowid or 0

    def _compiled_for(self, dialect: Dialect) -> "_Compiled":
        compiled = self._compiled
        if compiled is None or compiled.dialect is not dialect:
            # Another thread may do the same for another engine.
            compiled = self._compiled = _Compiled(self._build(dialect.name), dialect, self._columns)
        return compiled


def run_on_driver(connection: Connection, sql: str) -> None:
    """Run a statement without values and without a result."""
    if connection.dialect.name == "sqlite":
        with _mapped_errors(connection, sql):
            _driver(connection).execute(sql)
    else:
        connection.exec_driver_sql(sql)


class _Compiled:
    """A statement for an engine's dialect.

    Attributes:
        statement: the statement.
        dialect: the dialect.
        names: of the columns of the result.
    """

    def __init__(self, statement: Statement, dialect: Dialect, columns: Sequence[str]) -> None:
        self.statement = statement
        self.dialect = dialect
        compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns) or None)
        self._sql = str(compiled)
        given = compiled.params
        self._parameters = [
            (name, given[name], compiled.binds[name].type.dialect_impl(dialect).bind_processor(dialect))
            for name in compiled.positiontup or ()
        ]
        selected = () if isinstance(statement, Insert) else tuple(statement.exported_columns)
        self.names = [str(column.key) for column in selected]
        results = [_result_processor(column.type, dialect) for column in selected]
        self._results = results if any(results) else None

    def run(self, connection: Connection, values: Values) -> sqlite3.Cursor:
        """Run a statement without a result on the driver."""
        with _mapped_errors(connection, self._sql):
            return _driver(connection).execute(self._sql, self._given(values))

    def rows(self, connection: Connection, values: Values) -> Sequence[Sequence[Any]]:
        """Run the statement on the driver, and return its rows with the values that SQLAlchemy returns."""
        with _mapped_errors(connection, self._sql):
            # SQLite reads all but the first row here, and may find a damage in them.
            rows = _driver(connection).execute(self._sql, self._given(values)).fetchall()
        if self._results is None:
            return rows
        return [
            [value if convert is None else convert(value) for value, convert in zip(row, self._results, strict=True)]
            for row in rows
        ]

    def _given(self, values: Values) -> Sequence[Any]:
        return [
            value if convert is None else convert(value)
            for value, convert in [(values.get(name, given), convert) for name, given, convert in self._parameters]
        ]


def _result_processor(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    return kind.dialect_impl(dialect).result_processor(dialect, None)


def _is_direct(connection: Connection) -> bool:
    # SQLAlchemy begins a transaction with the first statement, and it lets others watch statements.
    events = connection.engine.dispatch
    return (
        connection.dialect.name == "sqlite"
        and connection.in_transaction()
        and not (events.before_cursor_execute or events.after_cursor_execute)
    )


def _driver(connection: Connection) -> sqlite3.Connection:
    driver: Any = connection.connection.driver_connection
    return cast("sqlite3.Connection", driver)


@contextmanager
def _mapped_errors(connection: Connection, sql: str) -> Iterator[None]:
    """Raise errors of the driver as SQLAlchemy does."""
    try:
        yield
    except sqlite3.Error as error:
        # The statement's values would contain names of persons.
        raise DBAPIError.instance(
            sql, None, error, sqlite3.Error, hide_parameters=True, dialect=connection.dialect
        ) from error
