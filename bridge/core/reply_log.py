"""Log lines of commands: one for each press and each group, and one for many person changes that belong together."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

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
    """Logs the replies to commands. Lines are written after the events, because a line costs more than a press."""

    def __init__(self, events: EventBus, registry: TerminalRegistry) -> None:
        self._registry = registry
        self._collections: dict[_Key, _Collection] = {}
        events.subscribe(CommandReplied, self._replied, name="reply log")
        events.subscribe(PersonSettled, self._settled, name="reply log")
        events.subscribe(GroupReplied, self._group_replied, name="reply log")

    def flush(self) -> None:
        """Write the lines of all replies that are collected; for the end of the bridge."""
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
            _soon(self._write_reply, reply)

    def _settled(self, event: PersonSettled) -> None:
        self._collect(event.reply, event.origin, is_final=True)

    def _group_replied(self, event: GroupReplied) -> None:
        _soon(self._write_summary, event.summary)

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
        _LOGGER.log(
            logging.WARNING if reply.outcome in (Outcome.INVALID, Outcome.REFUSED) else logging.INFO,
            "%s",
            self._described(reply),
            extra={
                "sn": reply.sn,
                "msgid": reply.msgid,
                "request_id": reply.request_id,
                "person_id": reply.person_id,
            },
        )

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


def _soon(function: Callable[..., None], *arguments: Any) -> None:
    asyncio.get_running_loop().call_soon(function, *arguments)
