"""Terminals that are known though not listed in the configuration."""

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import RowMapping, delete, insert, select, update

from bridge.model.secret import Secret
from bridge.model.terminal import Terminal, TerminalOrigin
from bridge.store.database import Database
from bridge.store.tables import TERMINAL


class StoredTerminals:
    """The hub's `TerminalStore`."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def load(self) -> Sequence[Terminal]:
        """Return all, in the order they became known. Raises UnavailableError."""
        query = select(TERMINAL).order_by(TERMINAL.c.created_at, TERMINAL.c.sn)
        async with self._database.reading() as connection:
            return [_read(row) for row in (await connection.execute(query)).mappings()]

    async def save(self, terminal: Terminal) -> None:
        """Add or replace one, its credentials already hashed. Raises UnavailableError."""
        now = self._now()
        values = {
            "origin": terminal.origin.value,
            "name": terminal.name,
            "area": terminal.area,
            "groups": list(terminal.groups),
            "key": _reveal(terminal.key),
            "username": terminal.username,
            "password": _reveal(terminal.password),
            "changed_at": now,
        }
        change = update(TERMINAL).where(TERMINAL.c.sn == terminal.sn)
        async with self._database.writing() as connection:
            if not (await connection.execute(change.values(values))).rowcount:
                await connection.execute(insert(TERMINAL).values(sn=terminal.sn, created_at=now, **values))

    async def delete(self, sn: str) -> None:
        """Drop one; no error where there is none. Raises UnavailableError."""
        async with self._database.writing() as connection:
            await connection.execute(delete(TERMINAL).where(TERMINAL.c.sn == sn))


def _read(row: RowMapping) -> Terminal:
    return Terminal(
        sn=row["sn"],
        origin=TerminalOrigin(row["origin"]),
        name=row["name"],
        area=row["area"],
        groups=tuple(row["groups"]),
        key=_hide(row["key"]),
        username=row["username"],
        password=_hide(row["password"]),
    )


def _reveal(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _hide(value: str | None) -> Secret | None:
    return None if value is None else Secret(value)
