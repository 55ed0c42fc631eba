"""Terminals that are known although the configuration does not list them."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, RowMapping, delete, select

from bridge.model.received_message import AnsweredMessage, ReceivedMessage
from bridge.model.reply import Reply
from bridge.model.secret import Secret
from bridge.model.terminal import Terminal, TerminalOrigin
from bridge.store import received_messages
from bridge.store.database import Database
from bridge.store.errors import CommitUnknownError
from bridge.store.insertion import insert_for
from bridge.store.tables import TERMINAL


class StoredTerminals:
    """The core's `TerminalStore`."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    async def load(self) -> Sequence[Terminal]:
        """Return all, in the order in which they became known. Raises UnavailableError."""
        return await self._database.read(load_terminals)

    async def save(self, terminal: Terminal, answered: AnsweredMessage | None = None) -> None:
        """Add or replace one, its credentials already hashed. Raises UnavailableError."""
        now = self._now()
        await self._write(partial(_save, terminals=[terminal], now=now), answered, now)

    async def save_all(self, terminals: Sequence[Terminal]) -> None:
        """Add or replace several in one transaction. Raises UnavailableError."""
        now = self._now()
        await self._write(partial(_save, terminals=terminals, now=now), None, now)

    async def delete(self, sn: str, answered: AnsweredMessage | None = None) -> None:
        """Delete one; no error if there is none. Raises UnavailableError."""
        await self._write(partial(_delete, sn=sn), answered, self._now())

    async def reply_to(self, message: ReceivedMessage) -> Reply | None:
        """Return the reply to a message whose command was answered before. Raises UnavailableError."""
        replies = await self._database.read(received_messages.replies_to, message, self._now())
        return replies[0].replies[0] if replies else None

    async def add_answered(self, answered: AnsweredMessage) -> None:
        """Store the reply to a message whose command changes nothing. Raises UnavailableError."""
        await self._write(None, answered, self._now())

    async def _write(
        self, change: Callable[[Connection], None] | None, answered: AnsweredMessage | None, now: datetime
    ) -> None:
        """Change a terminal, and store in the same transaction that the command of the message is carried out."""
        try:
            await self._database.write(_write, change, answered, now)
        except CommitUnknownError as error:
            if answered is not None and error.result is not None:
                answered.message.possible_ids.append(error.result)
            raise


def load_terminals(connection: Connection) -> list[Terminal]:
    """Return all stored terminals, in the order in which they became known."""
    rows = connection.execute(select(TERMINAL).order_by(TERMINAL.c.created_at, TERMINAL.c.sn)).mappings()
    return [_read(row) for row in rows]


def _write(
    connection: Connection,
    change: Callable[[Connection], None] | None,
    answered: AnsweredMessage | None,
    now: datetime,
) -> int | None:
    """Write both; return the id under which the message is stored."""
    if change is not None:
        change(connection)
    if answered is None:
        return None
    return received_messages.add_command(connection, answered.message, answered.reply, now)


def _save(connection: Connection, terminals: Sequence[Terminal], now: datetime) -> None:
    add = insert_for(connection)(TERMINAL)
    changed = {name: column for name, column in add.excluded.items() if name not in ("sn", "created_at")}
    rows = [
        {
            "sn": terminal.sn,
            "origin": terminal.origin.value,
            "name": terminal.name,
            "area": terminal.area,
            "groups": list(terminal.groups),
            "key": _revealed(terminal.key),
            "username": terminal.username,
            "password": _revealed(terminal.password),
            "created_at": now,
            "changed_at": now,
        }
        for terminal in terminals
    ]
    connection.execute(add.on_conflict_do_update(index_elements=["sn"], set_=changed), rows)


def _delete(connection: Connection, sn: str) -> None:
    connection.execute(delete(TERMINAL).where(TERMINAL.c.sn == sn))


def _read(row: RowMapping) -> Terminal:
    return Terminal(
        sn=row["sn"],
        origin=TerminalOrigin(row["origin"]),
        name=row["name"],
        area=row["area"],
        groups=tuple(row["groups"]),
        key=_secret(row["key"]),
        username=row["username"],
        password=_secret(row["password"]),
    )


def _revealed(secret: Secret | None) -> str | None:
    return None if secret is None else secret.reveal()


def _secret(value: str | None) -> Secret | None:
    return None if value is None else Secret(value)
