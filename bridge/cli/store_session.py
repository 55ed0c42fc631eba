"""Opens the store for commands that work beside a bridge, which may be running on it."""

import getpass
import os
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice

from bridge.config.settings import Settings
from bridge.core.audit import AuditRecorder
from bridge.core.clock import Clock, read_boot_id
from bridge.core.event_bus import EventBus
from bridge.import_export.context import TransferContext, TransferTarget
from bridge.model.names import ALL_TERMINALS
from bridge.model.origin import Origin
from bridge.model.terminal import Terminal
from bridge.persons.timestamps import LocalTimezone
from bridge.persons.transaction_runner import PersonContext, TransactionRunner
from bridge.store.audit import StoredAudit
from bridge.store.database import Database
from bridge.store.group_queries import group_sizes
from bridge.store.instance_lock import is_bridge_running
from bridge.store.photos import PhotoCipher, PhotoRotation
from bridge.store.terminals import load_terminals

_NAMED = 10
"""Terminals or groups that an error lists: enough to find a typing error."""


class UnknownTargetError(Exception):
    """No such terminal or group; the message lists the known ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStore:
    """The store, as commands beside the bridge see it.

    Attributes:
        context: changes persons.
        cipher: decrypts photos.
        known: the known terminals by SN, those of the configuration first.
        bridge_running: whether a bridge runs on the store.
    """

    context: TransferContext
    cipher: PhotoCipher
    known: Mapping[str, Terminal]
    bridge_running: bool

    @property
    def database(self) -> Database:
        """The store, for queries."""
        return self.context.database

    def title(self, sn: str) -> str:
        """Return a terminal's SN, and its name if it has one."""
        terminal = self.known.get(sn)
        return f"{sn} ({terminal.name})" if terminal is not None and terminal.name else sn

    async def target(self, terminal: str | None, group: str | None) -> TransferTarget:
        """Return what `--terminal` or `--group` selects; without either, all terminals.

        Raises:
            UnknownTargetError: no such terminal, or the group has no members and keeps no persons.
            UnavailableError: the store cannot be read.
        """
        if terminal is not None:
            if terminal not in self.known:
                raise UnknownTargetError(f"terminal {terminal} is not known; known are {some(self.known, _NAMED)}")
            return TransferTarget([terminal])
        if group is not None:
            members = [sn for sn, one in self.known.items() if group in one.memberships]
            kept = await self.database.read(group_sizes)
            if members or group in kept:
                return TransferTarget(members, group)
            if group != ALL_TERMINALS:
                names = {name for one in self.known.values() for name in one.groups} | kept.keys() | {ALL_TERMINALS}
                raise UnknownTargetError(
                    f"group {group} has no members and keeps no persons; groups are {some(sorted(names), _NAMED)}"
                )
        if not self.known:
            raise UnknownTargetError("no terminal is known yet: list it in the configuration, or approve it")
        return TransferTarget(list(self.known))


@asynccontextmanager
async def open_store(settings: Settings, command: str) -> AsyncIterator[OpenStore]:
    """Open the store.

    Args:
        settings: the configuration.
        command: the command that requests the changes, such as `persons import`.

    Raises:
        StoreError: it cannot be opened as it is.
        UnavailableError: it is full, locked or unreachable.
    """
    url = settings.store.url.reveal()
    bridge_running = await is_bridge_running(url)
    database = await Database.open(url, may_upgrade=not bridge_running)
    try:
        cipher = PhotoCipher(settings.store.photo_key)
        await PhotoRotation(database, cipher).require_keys()
        clock, events = Clock(), EventBus()
        audit = AuditRecorder(StoredAudit(database), events, clock, settings.audit.keep_days)
        transactions = TransactionRunner(
            PersonContext(database=database, cipher=cipher, events=events, clock=clock, boot_id=read_boot_id()),
            is_external=True,
        )
        context = TransferContext(
            transactions=transactions,
            timezone=LocalTimezone(),
            origin=Origin(source=f"facebridge {command}", user=_user()),
            bridge_running=bridge_running,
        )
        known = {terminal.sn: terminal for terminal in settings.terminals.known}
        for terminal in await database.read(load_terminals):
            known.setdefault(terminal.sn, terminal)
        audit.start()
        try:
            yield OpenStore(context=context, cipher=cipher, known=known, bridge_running=bridge_running)
        finally:
            await transactions.stop()
            await audit.stop()
    finally:
        await database.close()


def some(names: Collection[str], limit: int) -> str:
    """Return the first few names, and how many more there are."""
    more = len(names) - limit
    return ", ".join(islice(names, limit)) + (f" and {more:,} more" if more > 0 else "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # The user of a container often has no name.
        return f"uid {os.getuid()}"
