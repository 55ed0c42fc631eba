"""Opens the store for commands that work beside a bridge, which may be running on it."""

import getpass
import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice

from bridge.config.settings import Settings
from bridge.core.audit import AuditRecorder
from bridge.core.clock import Clock, read_boot_id
from bridge.core.event_bus import EventBus
from bridge.import_export.context import TransferContext
from bridge.model.names import ALL_TERMINALS
from bridge.model.origin import Origin
from bridge.model.terminal import Terminal
from bridge.persons.timestamps import LocalTimezone
from bridge.persons.transaction_runner import TransactionRunner
from bridge.store.audit import StoredAudit
from bridge.store.database import Database
from bridge.store.instance_lock import is_bridge_running
from bridge.store.persons import StoredPersons
from bridge.store.photo_cipher import PhotoCipher
from bridge.store.photo_rotation import PhotoRotation
from bridge.store.terminals import StoredTerminals

_NAMED = 10
"""Terminals or groups that an error names: enough to find a typing error by."""


class UnknownTargetError(Exception):
    """No such terminal or group; the message names those there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenStore:
    """The store, as commands beside the bridge see it.

    Attributes:
        context: changes persons.
        persons: the same store, to look at.
        known: the known terminals by SN, those of the configuration first.
        has_bridge: whether a bridge runs on it.
    """

    context: TransferContext
    persons: StoredPersons
    known: Mapping[str, Terminal]
    bridge_running: bool

    def title(self, sn: str) -> str:
        """Return a terminal's SN, and its name where it has one."""
        terminal = self.known.get(sn)
        return f"{sn} ({terminal.name})" if terminal is not None and terminal.name else sn

    def targets(self, terminal: str | None, group: str | None) -> Sequence[str]:
        """Return the SNs that `--terminal` or `--group` means; without either, all.

        Raises:
            UnknownTargetError: no such terminal, or nobody in such a group.
        """
        if terminal is not None:
            if terminal not in self.known:
                raise UnknownTargetError(f"terminal {terminal} is not known; known are {some(self.known, _NAMED)}")
            return [terminal]
        if group is None or group == ALL_TERMINALS:
            if not self.known:
                raise UnknownTargetError("no terminal is known yet: list it in the configuration, or approve it")
            return list(self.known)
        members = [sn for sn, one in self.known.items() if group in one.groups]
        if not members:
            groups = sorted({name for one in self.known.values() for name in one.groups} | {ALL_TERMINALS})
            raise UnknownTargetError(f"no terminal is in a group {group}; groups are {some(groups, _NAMED)}")
        return members


@asynccontextmanager
async def open_store(settings: Settings, command: str) -> AsyncIterator[OpenStore]:
    """Open the store.

    Args:
        settings: the configuration.
        command: in whose name changes are asked for, as `persons import`.

    Raises:
        StoreError: it cannot be opened as it is.
        UnavailableError: it is full, locked or gone.
    """
    url = settings.store.url.reveal()
    bridge_running = await is_bridge_running(url)
    database = await Database.open(url, may_upgrade=not bridge_running)
    try:
        cipher = PhotoCipher(settings.store.photo_key)
        await PhotoRotation(database, cipher).require_keys()
        clock, events, boot_id = Clock(), EventBus(), read_boot_id()
        audit = AuditRecorder(StoredAudit(database), events, clock, settings.audit.keep_days)
        persons = StoredPersons(database, cipher)
        commits = TransactionRunner(persons, events, clock, boot_id, beside_a_bridge=True)
        context = TransferContext(
            store=persons,
            commits=commits,
            events=events,
            clock=clock,
            boot_id=boot_id,
            timezone=LocalTimezone(),
            origin=Origin(source=f"facebridge {command}", user=_user()),
            bridge_running=bridge_running,
        )
        known = {terminal.sn: terminal for terminal in settings.terminals.known}
        for terminal in await StoredTerminals(database, clock.now).load():
            known.setdefault(terminal.sn, terminal)
        audit.start()
        try:
            yield OpenStore(context=context, persons=persons, known=known, bridge_running=bridge_running)
        finally:
            await commits.stop()
            await audit.stop()
    finally:
        await database.close()


def some(names: Collection[str], limit: int) -> str:
    """Name the first few, and say how many more there are."""
    more = len(names) - limit
    return ", ".join(islice(names, limit)) + (f" and {more:,} more" if more > 0 else "")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user often has no name.
        return f"uid {os.getuid()}"
