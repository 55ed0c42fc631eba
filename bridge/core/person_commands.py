"""Person commands: to a terminal or every member of a group, answered by the roster."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge.core.clock import Clock
from bridge.core.commands import GET_PERSONS, REMOVE_PERSONS, SET_PERSONS, SYNC_PERSONS
from bridge.core.event_bus import EventBus
from bridge.core.ports import PersonRequest, PersonsPort
from bridge.core.registry import TerminalRegistry
from bridge.core.replies import ReplyDispatcher
from bridge.model.commands import GetPersons, PersonChange, RemovePersons, SetPersons
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.reply import GroupSummary, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonCommand:
    """A person change as a face hands it in, for exactly one of a terminal and a group.

    Attributes:
        change: what.
        origin: who asked.
        sn: the terminal.
        group: the group.
    """

    change: PersonChange
    origin: Origin
    sn: str | None = None
    group: str | None = None


class PersonCommands:
    """Hands person commands to the roster and tells what it answered."""

    def __init__(self, registry: TerminalRegistry, events: EventBus, clock: Clock, person_service: PersonsPort) -> None:
        self._registry = registry
        self._person_service = person_service
        self._clock = clock
        self._replies = ReplyDispatcher(events, clock)

    async def change(self, asked: Sequence[PersonCommand]) -> Sequence[Sequence[Reply] | GroupSummary]:
        """Apply changes in their order, together; return once they are stored, or it is clear that they are not.

        Whoever asked has been told then. Where a reply is `unavailable`, nothing at all was changed and the whole may
        be handed in again.

        Returns:
            For each change its replies, or the summary of its group.
        """
        requests: list[PersonRequest] = []
        spans: list[tuple[int, int]] = []
        now = self._clock.boottime()
        for one in asked:
            start = len(requests)
            requests += self._requests(one, now)
            spans.append((start, len(requests)))
        replies = await self._person_service.change(requests) if requests else []
        return [
            self._tell(one, requests[start:end], replies[start:end])
            for one, (start, end) in zip(asked, spans, strict=True)
        ]

    async def get(self, sn: str, command: GetPersons, origin: Origin) -> Reply:
        """List whom a terminal should hold, and tell whoever asked."""
        asked = self._replies.builder(GET_PERSONS.name, command.request_id, sn)
        if sn not in self._registry:
            return self._replies.publish(asked.unknown_terminal(), origin)
        try:
            persons = await self._person_service.persons(sn, command.id)
        except UnavailableError as error:
            return self._replies.publish(asked.reply(Outcome.UNAVAILABLE, message=str(error)), origin)
        return self._replies.publish(asked.reply(Outcome.OK, persons=persons), origin)

    def _requests(self, asked: PersonCommand, now: float) -> list[PersonRequest]:
        if asked.group is None:
            known = self._registry.get(asked.sn or "")
            members = [] if known is None else [known]
            origin = asked.origin
        else:
            members = self._registry.members(asked.group)
            origin = replace(asked.origin, response_topic=None, correlation_data=None)
        return [
            PersonRequest(sn=member.terminal.sn, change=asked.change, origin=origin, received_at=now)
            for member in members
        ]

    def _tell(
        self, asked: PersonCommand, requests: Sequence[PersonRequest], replies: Sequence[Sequence[Reply]]
    ) -> Sequence[Reply] | GroupSummary:
        name = _name(asked.change)
        if not requests:
            unknown = self._replies.builder(name, asked.change.request_id, asked.sn)
            reply = unknown.unknown_terminal() if asked.group is None else unknown.unknown_group(asked.group)
            return [self._replies.publish(reply, asked.origin)]
        for request, answers in zip(requests, replies, strict=True):
            for reply in answers:
                self._replies.publish(reply, request.origin)
        flat = [reply for answers in replies for reply in answers]
        if asked.group is None:
            return flat
        return self._replies.publish_summary(flat, name, asked.group, asked.change.request_id, asked.origin)


def _name(change: PersonChange) -> str:
    if isinstance(change, SetPersons):
        return SET_PERSONS.name
    return (REMOVE_PERSONS if isinstance(change, RemovePersons) else SYNC_PERSONS).name
