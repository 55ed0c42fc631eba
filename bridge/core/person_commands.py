"""Person commands for one terminal or for every member of a group."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bridge.core.clock import Clock
from bridge.core.commands import GET_PERSONS, REMOVE_PERSONS, SET_PERSONS, SYNC_PERSONS
from bridge.core.event_bus import EventBus
from bridge.core.ports import DesiredPersons, PersonRequest
from bridge.core.registry import TerminalRegistry
from bridge.core.replies import ReplyDispatcher
from bridge.model.commands import GetPersons, PersonChange, RemovePersons, SetPersons
from bridge.model.faults import UnavailableError
from bridge.model.origin import Origin
from bridge.model.received_message import ReceivedMessage
from bridge.model.reply import GroupSummary, Outcome, Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonCommand:
    """A person change for either a terminal or a group, as an adapter received it.

    Attributes:
        change: the change.
        origin: where it came from.
        sn: the terminal.
        group: the group.
        message: the message that it came with, if it came over MQTT.
    """

    change: PersonChange
    origin: Origin
    sn: str | None = None
    group: str | None = None
    message: ReceivedMessage | None = None


class PersonCommands:
    """Carries out person commands and publishes their replies."""

    def __init__(
        self, registry: TerminalRegistry, events: EventBus, clock: Clock, desired_persons: DesiredPersons
    ) -> None:
        self._registry = registry
        self._desired_persons = desired_persons
        self._clock = clock
        self._replies = ReplyDispatcher(events, clock)

    async def change(self, commands: Sequence[PersonCommand]) -> Sequence[Sequence[Reply] | GroupSummary]:
        """Apply changes in order and together; return after the commit or the failure.

        The replies have been published then. If a reply is `unavailable`, nothing at all was changed, and the caller
        may pass all the changes again.

        Returns:
            The replies to each change, or its group's summary.
        """
        requests: list[PersonRequest] = []
        spans: list[tuple[int, int]] = []
        now = self._clock.boottime()
        for command in commands:
            start = len(requests)
            requests += self._requests(command, now)
            spans.append((start, len(requests)))
        replies = await self._desired_persons.change(requests) if requests else []
        return [
            self._publish(command, requests[start:end], replies[start:end])
            for command, (start, end) in zip(commands, spans, strict=True)
        ]

    async def forget_deliveries(self) -> None:
        """Forget the packet ids of received messages: the broker has begun a new session. Raises UnavailableError."""
        await self._desired_persons.forget_deliveries()

    async def get(self, sn: str, command: GetPersons, origin: Origin) -> Reply:
        """List the persons that a terminal should hold, and publish the reply."""
        reply_builder = self._replies.builder(GET_PERSONS.name, command.request_id, sn)
        if sn not in self._registry:
            return self._replies.publish(reply_builder.unknown_terminal(), origin)
        try:
            persons = await self._desired_persons.persons(sn, command.id)
        except UnavailableError as error:
            return self._replies.publish(reply_builder.unavailable(error), origin)
        return self._replies.publish(reply_builder.reply(Outcome.OK, persons=persons), origin)

    def _requests(self, command: PersonCommand, now: float) -> list[PersonRequest]:
        """Return the requests for the known terminals that a command addresses."""
        if command.group is None:
            known = self._registry.get(command.sn or "")
            members = [] if known is None else [known]
            origin = command.origin
        else:
            members = self._registry.members(command.group)
            # Only the summary goes to the Response Topic, not every member's reply.
            origin = replace(command.origin, response_topic=None, correlation_data=None)
        return [
            PersonRequest(
                sn=member.terminal.sn, change=command.change, origin=origin, received_at=now, message=command.message
            )
            for member in members
        ]

    def _publish(
        self, command: PersonCommand, requests: Sequence[PersonRequest], replies: Sequence[Sequence[Reply]]
    ) -> Sequence[Reply] | GroupSummary:
        name = _name(command.change)
        if not requests:
            builder = self._replies.builder(name, command.change.request_id, command.sn)
            reply = builder.unknown_terminal() if command.group is None else builder.unknown_group(command.group)
            return [self._replies.publish(reply, command.origin)]
        for request, its_replies in zip(requests, replies, strict=True):
            for reply in its_replies:
                self._replies.publish(reply, request.origin)
        all_replies = [reply for its_replies in replies for reply in its_replies]
        if command.group is None:
            return all_replies
        return self._replies.publish_summary(
            all_replies, name, command.group, command.change.request_id, command.origin
        )


def _name(change: PersonChange) -> str:
    if isinstance(change, SetPersons):
        return SET_PERSONS.name
    return (REMOVE_PERSONS if isinstance(change, RemovePersons) else SYNC_PERSONS).name
