"""Log lines of commands: one for each press and each group, and one for many person changes that belong together."""

import asyncio
import logging
from collections import Counter, deque
from dataclasses import dataclass, field

from bridge.core.commands import REMOVE_PERSONS, SET_PERSONS, SYNC_PERSONS
from bridge.core.event_bus import EventBus
from bridge.core.registry import TerminalRegistry
from bridge.model.events import CommandReplied, GroupReplied, PersonSettled
from bridge.model.faults import shorten
from bridge.model.origin import Origin
from bridge.model.reply import GroupSummary, Outcome, Reply

_LOGGER = logging.getLogger(__name__)

FIRST_LINE_SECONDS = 1.0
"""Time for which replies that belong together are collected before their first line."""

NEXT_LINE_SECONDS = 60.0
"""Interval of the lines of a long import."""

_WAIT_SECONDS = 0.02
"""How long the line of a press waits. Written at once, it wakes the program that reads the log, which then takes the
processor from the presses that follow: with single presses for 130 microseconds (measured)."""

_PAUSE_SECONDS = 0.002
_LINES_AT_ONCE = 4
_WRITTEN_PART = 10
"""Pause between two portions of lines, and their size: at least so many lines, and at least this part of those that
wait, so that a flood does not fill the memory. A line takes 25 microseconds, for which presses wait."""

_MAX_COLLECTIONS = 1000
"""Requests for which replies are collected at the same time; with more, the oldest gets its line at once."""

_NAMED_FAILURES = 3
"""Failures that one line describes."""

_REASON_LENGTH = 300
"""Characters of a reason; it can come from a terminal."""

_PERSON_COMMANDS = frozenset({SET_PERSONS.name, REMOVE_PERSONS.name, SYNC_PERSONS.name})
_SUCCESSES = frozenset({Outcome.OK, Outcome.ACCEPTED, Outcome.SUPERSEDED})

_Key = tuple[str, str, str | None, bool]


@dataclass(slots=True)
class _Collection:
    """Replies that belong together.

    Attributes:
        origin: where their command came from.
        outcomes: how often each outcome occurred since the last line.
        single: the reply, as long as there is only one.
        failures: descriptions of the first ones since the last line.
        timer: calls for the next line.
    """

    origin: Origin
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    single: Reply | None = None
    failures: list[str] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None


class ReplyLog:
    """Logs the replies to commands. Lines are written a little later, because a line costs more than a press."""

    def __init__(self, events: EventBus, registry: TerminalRegistry) -> None:
        self._registry = registry
        self._waiting: deque[Reply | GroupSummary] = deque()
        self._waiting_handle: asyncio.Handle | None = None
        self._collections: dict[_Key, _Collection] = {}
        events.subscribe(CommandReplied, self._replied, name="reply log")
        events.subscribe(PersonSettled, self._settled, name="reply log")
        events.subscribe(GroupReplied, self._group_replied, name="reply log")

    def flush(self) -> None:
        """Write the lines of all replies that wait or are collected; for the end of the bridge."""
        self._write_waiting(len(self._waiting))
        for key in list(self._collections):
            self._write(key)
            self._drop(key)

    def _replied(self, event: CommandReplied) -> None:
        reply = event.reply
        if event.in_group and (reply.outcome in _SUCCESSES or reply.command not in _PERSON_COMMANDS):
            # The summary of the group has it.
            return
        if reply.command in _PERSON_COMMANDS:
            self._collect(reply, event.origin, is_final=False)
        else:
            self._write_later(reply)

    def _settled(self, event: PersonSettled) -> None:
        self._collect(event.reply, event.origin, is_final=True)

    def _group_replied(self, event: GroupReplied) -> None:
        self._write_later(event.summary)

    def _write_later(self, line: Reply | GroupSummary) -> None:
        self._waiting.append(line)
        if self._waiting_handle is None:
            self._waiting_handle = asyncio.get_running_loop().call_later(_WAIT_SECONDS, self._continue_writing)

    def _continue_writing(self) -> None:
        number = len(self._waiting)
        self._write_waiting(min(number, max(_LINES_AT_ONCE, number // _WRITTEN_PART)))
        if self._waiting:
            self._waiting_handle = asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._continue_writing)

    def _write_waiting(self, number: int) -> None:
        if self._waiting_handle is not None:
            self._waiting_handle.cancel()
            self._waiting_handle = None
        for _ in range(number):
            line = self._waiting.popleft()
            if isinstance(line, Reply):
                self._write_reply(line)
            else:
                self._write_summary(line)

    def _collect(self, reply: Reply, origin: Origin, *, is_final: bool) -> None:
        key = (reply.command, origin.source, reply.request_id, is_final)
        found = self._collections.get(key)
        if found is None:
            if len(self._collections) >= _MAX_COLLECTIONS:
                oldest = next(iter(self._collections))
                self._write(oldest)
                self._drop(oldest)
            found = self._collections[key] = _Collection(origin)
            found.timer = asyncio.get_running_loop().call_later(FIRST_LINE_SECONDS, self._timer, key)
        found.single = reply if not found.outcomes else None
        found.outcomes[reply.outcome] += 1
        if reply.outcome not in _SUCCESSES and len(found.failures) < _NAMED_FAILURES:
            found.failures.append(self._described(reply))

    def _timer(self, key: _Key) -> None:
        found = self._collections[key]
        if not found.outcomes:
            self._drop(key)
            return
        self._write(key)
        found.timer = asyncio.get_running_loop().call_later(NEXT_LINE_SECONDS, self._timer, key)

    def _drop(self, key: _Key) -> None:
        found = self._collections.pop(key)
        if found.timer is not None:
            found.timer.cancel()

    def _write(self, key: _Key) -> None:
        found = self._collections[key]
        if not found.outcomes:
            return
        if found.single is not None:
            self._write_reply(found.single)
        else:
            command, _, request_id, _ = key
            by = f" by {found.origin.user}" if found.origin.user else ""
            failures = f"; {'; '.join(found.failures)}" if found.failures else ""
            more = sum(number for one, number in found.outcomes.items() if one not in _SUCCESSES) - len(found.failures)
            _LOGGER.log(
                logging.WARNING if found.failures else logging.INFO,
                "%s from %s%s: %s%s%s",
                command,
                found.origin.source,
                by,
                _counts(found.outcomes),
                failures,
                f"; and {more:,} more" if more > 0 else "",
                extra={"request_id": request_id},
            )
        found.outcomes.clear()
        found.failures.clear()
        found.single = None

    def _write_reply(self, reply: Reply) -> None:
        level = logging.WARNING if reply.outcome in (Outcome.INVALID, Outcome.REFUSED) else logging.INFO
        if not _LOGGER.isEnabledFor(level):
            return
        # `Logger.log` looks for the caller in the stack, which takes as long as the rest.
        record = logging.LogRecord(_LOGGER.name, level, __file__, 0, self._described(reply), None, None)
        vars(record).update(sn=reply.sn, msgid=reply.msgid, request_id=reply.request_id, person_id=reply.person_id)
        _LOGGER.handle(record)

    def _write_summary(self, summary: GroupSummary) -> None:
        failed = [f"{self._title(sn)} {outcome.value}" for sn, outcome in summary.failed.items()]
        more = len(failed) - _NAMED_FAILURES
        named = f" ({', '.join(failed[:_NAMED_FAILURES])}{f' and {more:,} more' if more > 0 else ''})" if failed else ""
        counts = _counts(Counter(summary.outcomes)) or "no member"
        _LOGGER.info(
            "%s on group %s: %s%s",
            summary.command,
            summary.group,
            counts,
            named,
            extra={"request_id": summary.request_id},
        )

    def _described(self, reply: Reply) -> str:
        """Return a reply as text: the command, the person, the terminal, the outcome, and why it failed."""
        person = f" of {reply.person_id}" if reply.person_id else ""
        on = f" on {self._title(reply.sn)}" if reply.sn else f" on group {reply.group}" if reply.group else ""
        reason = (
            None if reply.outcome is Outcome.OK or reply.message is None else shorten(reply.message, _REASON_LENGTH)
        )
        if reply.outcome is Outcome.ACCEPTED:
            reason = None
        status = f", status {reply.status}" if reply.outcome is Outcome.REFUSED else ""
        return f"{reply.command}{person}{on}: {reply.outcome.value}{status}{f': {reason}' if reason else ''}"

    def _title(self, sn: str) -> str:
        known = self._registry.get(sn)
        return sn if known is None else known.terminal.label


def _counts(outcomes: Counter[Outcome]) -> str:
    return ", ".join(f"{number:,} {outcome.value}" for outcome, number in outcomes.most_common())
