"""Admission: which terminals may connect, which wait for approval, and how they are changed and forgotten."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from bridge.core.clock import Clock
from bridge.core.commands import ADMIT, FORGET
from bridge.core.event_bus import EventBus
from bridge.core.ports import DesiredPersons, PasswordHasher, TerminalStore
from bridge.core.registry import KnownTerminal, TerminalRegistry
from bridge.core.replies import ReplyBuilder, ReplyDispatcher
from bridge.model.commands import Admit, Forget
from bridge.model.events import (
    PendingChanged,
    TerminalAdmitted,
    TerminalDisconnected,
    TerminalForgotten,
    TerminalPending,
    TerminalRefused,
)
from bridge.model.faults import Fault, InvalidError, UnavailableError
from bridge.model.messages import message
from bridge.model.origin import Origin
from bridge.model.received_message import AnsweredMessage, ReceivedMessage
from bridge.model.reply import Outcome, Reply
from bridge.model.terminal import Terminal, TerminalOrigin

_LOGGER = logging.getLogger(__name__)

MAXIMUM_PENDING = 256
"""Terminals that may wait for approval: more than people approve by hand. One more drops the one that tried to connect
longest ago."""

MAXIMUM_REGISTERED_TOGETHER = 50
"""New terminals that become known together. One at a time takes two commits each: 3,000 that connected at once took
86 s, with 13,981 handshakes that timed out and were repeated; together they take 6 s. All their discovery payloads are
built before other tasks run, in some milliseconds."""

MAXIMUM_WAITING_TO_REGISTER = 200
"""New terminals that wait to become known while more are let in: four transactions. More of them would not become known
sooner, and the handshakes of the last ones would time out."""

MAXIMUM_TERMINALS = 20_000
"""Terminals that `terminals.admit: any` lets become known: twice the largest measured installation."""

_NAMED_PENDING = 5
"""Pending terminals that a reply names: enough to find a mistyped SN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingTerminal:
    """A terminal with correct credentials that waits for approval.

    Attributes:
        sn: its serial number.
        address: where it connected from last.
        first_seen: when it first tried.
        last_seen: when it last tried.
    """

    sn: str
    address: str
    first_seen: datetime
    last_seen: datetime


@dataclass(slots=True)
class _NewTerminals:
    """Terminals that become known together, because they have connected (`terminals.admit: any`).

    Attributes:
        sns: their serial numbers, without duplicates.
        is_registered: whether they are known now.
        error: why they are not.
    """

    sns: dict[str, None] = field(default_factory=dict)
    is_registered: bool = False
    error: UnavailableError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionServices:
    """The parts outside the core that admission uses.

    Attributes:
        terminals: stores the terminals that are not in the configuration.
        persons: drops the persons of a forgotten terminal.
        hasher: hashes the passwords that are stored.
    """

    terminals: TerminalStore
    persons: DesiredPersons
    hasher: PasswordHasher


class Admission:
    """Decides which terminals are known, and stores the decisions."""

    def __init__(
        self,
        registry: TerminalRegistry,
        events: EventBus,
        clock: Clock,
        services: AdmissionServices,
        admit: Literal["known", "any"],
    ) -> None:
        self._registry = registry
        self._events = events
        self._clock = clock
        self._services = services
        self._admit_any = admit == "any"
        self._replies = ReplyDispatcher(events, clock)
        self._pending: OrderedDict[str, PendingTerminal] = OrderedDict()
        # The new terminals that the next call which gets the lock registers.
        self._new = _NewTerminals()
        self._waiting_to_register = 0
        self._is_ready = asyncio.Event()
        self._is_ready.set()
        # Terminals that were stored, but whose persons could not follow their groups.
        self._unfinished: set[str] = set()
        # A terminal that is being forgotten must not be approved or registered meanwhile.
        self._changing = asyncio.Lock()

    async def load(self, configured: Iterable[Terminal]) -> None:
        """Register the stored and the configured terminals; the configuration wins. Raises UnavailableError."""
        for terminal in await self._services.terminals.load():
            self._registry.put(terminal)
        for terminal in configured:
            self._registry.put(terminal)

    @property
    def pending(self) -> Sequence[PendingTerminal]:
        """The terminals that wait for approval; the last one is the one that tried to connect last."""
        return tuple(self._pending.values())

    async def may_connect(self, sn: str, address: str) -> bool:
        """Return whether a terminal with correct credentials may connect; if not, let it wait for approval.

        Raises:
            UnavailableError: it may, but that could not be stored.
        """
        if sn in self._registry:
            return True
        if self._admit_any and len(self._registry) + len(self._new.sns) < MAXIMUM_TERMINALS:
            self._waiting_to_register += 1
            if self._waiting_to_register >= MAXIMUM_WAITING_TO_REGISTER:
                self._is_ready.clear()
            try:
                await self._register_new(sn)
            finally:
                self._waiting_to_register -= 1
                if self._waiting_to_register < MAXIMUM_WAITING_TO_REGISTER:
                    self._is_ready.set()
            return True
        self._wait_for_approval(sn, address)
        return False

    async def wait_ready(self) -> None:
        """Wait while too many new terminals wait to become known."""
        await self._is_ready.wait()

    def record_refusal(self, sn: str, address: str, reason: str, remedy: str = "") -> None:
        """Log and publish that a client was refused, and why.

        Args:
            sn: the serial number that it gave.
            address: its address.
            reason: for the log and the event.
            remedy: for the log only, after the reason.
        """
        known = self._registry.get(sn)
        label = sn if known is None else known.terminal.label
        _LOGGER.warning(
            "refused %s from %s: %s%s", label, address, reason, remedy, extra={"sn": sn, "address": address}
        )
        self._events.publish(TerminalRefused(at=self._clock.now(), sn=sn, address=address, reason=reason))

    async def admit(self, command: Admit, origin: Origin, message: ReceivedMessage | None = None) -> Reply:
        """Approve a terminal, connected before or not, or change an approved one; publish the reply.

        A change of credentials closes the connection that was made with the old ones. If the command of the message was
        carried out before, only publish its reply again.
        """
        reply_builder = self._replies.builder(ADMIT.name, command.request_id, command.sn)
        try:
            async with self._changing:
                reply = await self._earlier_reply(command.sn, message)
                if reply is None:
                    reply = await self._admit(command, reply_builder, message)
        except UnavailableError as error:
            reply = reply_builder.unavailable(error)
        return self._replies.publish(reply, origin)

    async def forget(self, command: Forget, origin: Origin, message: ReceivedMessage | None = None) -> Reply:
        """Close a terminal's connection, drop its persons and clear its topics; publish the reply.

        If the command of the message was carried out before, only publish its reply again.
        """
        reply_builder = self._replies.builder(FORGET.name, command.request_id, command.sn)
        try:
            async with self._changing:
                reply = await self._earlier_reply(command.sn, message)
                if reply is None:
                    reply = await self._forget(command.sn, reply_builder, message)
        except UnavailableError as error:
            reply = reply_builder.unavailable(error)
        return self._replies.publish(reply, origin)

    async def _earlier_reply(self, sn: str, message: ReceivedMessage | None) -> Reply | None:
        """Return the reply to a message whose command was answered before."""
        if message is None or sn in self._unfinished:
            return None
        reply = await self._services.terminals.reply_to(message)
        return None if reply is None else replace(reply, is_repeated=True)

    async def _admit(self, command: Admit, reply_builder: ReplyBuilder, message: ReceivedMessage | None) -> Reply:
        try:
            terminal = await self._changed_terminal(command)
        except InvalidError as error:
            return await self._answered(reply_builder.invalid(error.faults), message)
        reply = reply_builder.reply(Outcome.OK, message=self._never_connected(command.sn))
        await self._services.terminals.save(terminal, _answered_message(message, reply))
        await self._register([terminal])
        return reply

    def _never_connected(self, sn: str) -> str | None:
        """Return a hint for an SN with which no terminal has connected, because it may be mistyped."""
        known = self._registry.get(sn)
        has_connected = known is not None and (
            known.last_seen is not None or self._services.persons.counts(sn).confirmed > 0
        )
        if has_connected or sn in self._pending:
            return None
        hint = "no terminal with this SN has connected since the bridge started: check the SN"
        # The terminals that tried last come first.
        waiting = [f"{one.sn} ({one.address})" for one in reversed(self._pending.values())]
        more = len(waiting) - _NAMED_PENDING
        if waiting:
            hint += f"; waiting for approval: {', '.join(waiting[:_NAMED_PENDING])}"
        return f"{hint} and {more} more" if more > 0 else hint

    async def _forget(self, sn: str, reply_builder: ReplyBuilder, message: ReceivedMessage | None) -> Reply:
        known = self._registry.get(sn)
        if known is None and sn not in self._pending:
            return await self._answered(reply_builder.unknown_terminal(), message)
        if known is not None and known.terminal.origin is TerminalOrigin.CONFIGURED:
            return await self._answered(reply_builder.invalid([_configured_fault(sn)]), message)
        remaining = self._services.persons.counts(sn).possibly_held
        text = None
        if remaining:
            persons = f"{remaining:,} person{'' if remaining == 1 else 's'}"
            text = f"the device may still hold {persons}: delete them on the device itself, or reset it"
        reply = reply_builder.reply(Outcome.OK, message=text)
        await self._remove(sn, known, _answered_message(message, reply))
        self._drop_pending(sn)
        if known is not None:
            self._events.publish(TerminalForgotten(at=self._clock.now(), sn=sn))
        return reply

    async def _answered(self, reply: Reply, message: ReceivedMessage | None) -> Reply:
        """Store the reply to a command that changes nothing, and return it."""
        if message is not None:
            await self._services.terminals.add_answered(AnsweredMessage(message, reply))
        return reply

    async def _remove(self, sn: str, known: KnownTerminal | None, answered: AnsweredMessage | None) -> None:
        """Remove a terminal from the registry and the store. If the store is unavailable, only its connection ends.

        The registry comes first: a change of persons that came after them would be stored for an unknown terminal. The
        stored terminal comes last: after a `kill -9` in between, the command is carried out again.
        """
        had_connection = False
        if known is not None:
            self._registry.remove(sn)
            if known.connection is not None:
                had_connection = True
                connection = known.connection
                known.disconnected(connection)
                connection.reset("the terminal was forgotten")
        try:
            await self._services.persons.forget(sn)
            await self._services.terminals.delete(sn, answered)
        except UnavailableError as error:
            if known is not None:
                self._registry.restore(known)
                if had_connection:
                    self._events.publish(TerminalDisconnected(at=self._clock.now(), sn=sn, reason=str(error)))
            raise

    async def _changed_terminal(self, command: Admit) -> Terminal:
        """Return the terminal with the command's changes applied, its password hashed. Raises InvalidError."""
        known = self._registry.get(command.sn)
        if known is None:
            before = Terminal(sn=command.sn, origin=TerminalOrigin.APPROVED)
        elif known.terminal.origin is TerminalOrigin.CONFIGURED:
            raise InvalidError([_configured_fault(command.sn)])
        else:
            before = known.terminal
        changes: dict[str, Any] = {"groups": before.groups, **command.changes}
        after = replace(before, **{**changes, "origin": TerminalOrigin.APPROVED})
        if (after.username is None) != (after.password is None):
            missing = "username" if after.username is None else "password"
            raise InvalidError.at(missing, "is missing: give both username and password, or null for both")
        if after.password is not None and after.password is not before.password:
            after = replace(after, password=await self._services.hasher.hash(after.password))
        return after

    async def _register_new(self, sn: str) -> None:
        """Store and register a terminal because it has connected, together with those that connect meanwhile.

        Each caller waits for the lock. The first one that gets it registers the terminals of all that wait. If it is
        cancelled, because its connection ends, the next one does.
        """
        if len(self._new.sns) >= MAXIMUM_REGISTERED_TOGETHER:
            self._new = _NewTerminals()
        new = self._new
        new.sns[sn] = None
        async with self._changing:
            if not new.is_registered and new.error is None:
                if self._new is new:
                    self._new = _NewTerminals()
                sns = [one for one in new.sns if one not in self._registry]
                terminals = [Terminal(sn=one, origin=TerminalOrigin.CONNECTED) for one in sns]
                try:
                    if terminals:
                        await self._services.terminals.save_all(terminals)
                        await self._register(terminals)
                except UnavailableError as error:
                    new.error = error
                else:
                    new.is_registered = True
        if new.error is not None:
            raise UnavailableError(str(new.error))

    async def _register(self, terminals: Sequence[Terminal]) -> None:
        """Register stored terminals, and let their persons follow their groups. Raises UnavailableError."""
        before = {terminal.sn: self._registry.get(terminal.sn) for terminal in terminals}
        configurations = {sn: known.terminal for sn, known in before.items() if known is not None}
        # The registry comes first: a change for a group reaches every terminal that is a member by then.
        for terminal in terminals:
            self._registry.put(terminal)
        try:
            await self._services.persons.follow_groups(*before)
        except (UnavailableError, asyncio.CancelledError):
            for sn in before:
                self._unfinished.add(sn)
                if sn in configurations:
                    self._registry.put(configurations[sn])
                else:
                    self._registry.remove(sn)
            raise
        for terminal in terminals:
            self._unfinished.discard(terminal.sn)
            self._drop_pending(terminal.sn)
            self._close_connection_with_old_credentials(configurations.get(terminal.sn), terminal)
            self._events.publish(TerminalAdmitted(at=self._clock.now(), sn=terminal.sn))

    def _close_connection_with_old_credentials(self, before: Terminal | None, terminal: Terminal) -> None:
        known = self._registry.get(terminal.sn)
        if (
            before is not None
            and known is not None
            and known.connection is not None
            and (before.username, before.password) != (terminal.username, terminal.password)
        ):
            known.connection.reset("its credentials have changed")

    def _wait_for_approval(self, sn: str, address: str) -> None:
        now = self._clock.now()
        before = self._pending.pop(sn, None)
        first_seen = before.first_seen if before is not None else now
        self._pending[sn] = PendingTerminal(sn=sn, address=address, first_seen=first_seen, last_seen=now)
        if before is not None and before.address == address:
            return
        reason = "right credentials, but not known: approve it, or list it in the configuration"
        _LOGGER.warning(
            "terminal %s from %s waits for approval: `facebridge terminals approve %s`, or the page, or MQTT admit/set",
            sn,
            address,
            sn,
            extra={"sn": sn, "address": address},
        )
        self._events.publish(TerminalPending(at=now, sn=sn, address=address, reason=reason))
        if before is None:
            if len(self._pending) > MAXIMUM_PENDING:
                self._pending.popitem(last=False)
            self._events.publish(PendingChanged(at=now))

    def _drop_pending(self, sn: str) -> None:
        if self._pending.pop(sn, None) is not None:
            self._events.publish(PendingChanged(at=self._clock.now()))


def _answered_message(message: ReceivedMessage | None, reply: Reply) -> AnsweredMessage | None:
    return None if message is None else AnsweredMessage(message, reply)


def _configured_fault(sn: str) -> Fault:
    return Fault("sn", message("terminal %(sn)s is listed in the configuration: change it there", sn=sn))
