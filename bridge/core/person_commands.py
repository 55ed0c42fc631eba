"""Person commands for one terminal or for every member of a group."""

from collections.abc import Sequence
from dataclasses import replace

from bridge.core.clock import Clock
from bridge.core.commands import GET_PERSONS
from bridge.core.event_bus import EventBus
from bridge.core.ports import DesiredPersons, PersonCommand
from bridge.core.registry import TerminalRegistry
from bridge.core.replies import ReplyDispatcher
from bridge.model.commands import GetPersons, RemovePersons
from bridge.model.faults import UnavailableError
from bridge.model.names import ALL_TERMINALS
from bridge.model.origin import Origin
from bridge.model.reply import GroupSummary, Outcome, Reply


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
        """Apply changes in order; return after the last commit or the failure.

        The replies have been published then. If a reply to a change is `unavailable`, the caller may pass the change
        again: with its message, parts of it that are stored are not applied again.

        Returns:
            The replies to each change, or its group's summary.
        """
        now = self._clock.boottime()
        commands = [replace(command, sns=self._terminals(command), received_at=now) for command in commands]
        known = [self._is_known(command) for command in commands]
        addressed = [command for command, is_known in zip(commands, known, strict=True) if is_known]
        replies = iter(await self._desired_persons.change(addressed, self._publish) if addressed else [])
        return [
            self._result(command, next(replies)) if is_known else self._unknown(command)
            for command, is_known in zip(commands, known, strict=True)
        ]

    def must_wait(self, command: PersonCommand) -> bool:
        """Return whether `change` would wait, because another change of one of the terminals is in progress."""
        return self._desired_persons.must_wait(replace(command, sns=self._terminals(command)))

    def is_member(self, sn: str, group: str) -> bool:
        """Return whether a known terminal is in a group."""
        known = self._registry.get(sn)
        return known is not None and (group == ALL_TERMINALS or group in known.terminal.groups)

    def have_common_member(self, first: str, second: str) -> bool:
        """Return whether two groups have a terminal in common."""
        return any(self.is_member(known.terminal.sn, second) for known in self._registry.members(first))

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

    def _terminals(self, command: PersonCommand) -> tuple[str, ...]:
        """Return the known terminals that a command is for."""
        if command.group is not None:
            return tuple(known.terminal.sn for known in self._registry.members(command.group))
        return (command.sn,) if command.sn is not None and command.sn in self._registry else ()

    def _is_known(self, command: PersonCommand) -> bool:
        """Return whether a command has an addressee. A group that keeps persons needs no members for a removal."""
        if command.sns or command.group is None:
            return bool(command.sns)
        return isinstance(command.change, RemovePersons) and self._desired_persons.group_size(command.group) > 0

    def _unknown(self, command: PersonCommand) -> Sequence[Reply]:
        """Publish and return the reply to a command for an unknown terminal or a group without members."""
        builder = self._replies.builder(command.name, command.change.request_id, command.sn)
        reply = builder.unknown_terminal() if command.group is None else builder.unknown_group(command.group)
        return [self._replies.publish(reply, command.origin)]

    def _publish(self, command: PersonCommand, replies: Sequence[Reply]) -> None:
        """Publish the replies to a part of a command."""
        for reply in replies:
            if reply.sn is not None or reply.outcome is not Outcome.ACCEPTED:
                self._replies.publish(reply, command.reply_origin, in_group=command.group is not None)
            elif command.group is not None and not reply.is_repeated:
                # The group has no members, so no terminal replies: only the audit learns of it.
                self._replies.publish_group_change(reply, command.group, command.origin)

    def _result(self, command: PersonCommand, replies: Sequence[Reply]) -> Sequence[Reply] | GroupSummary:
        if command.group is None:
            return replies
        request_id = command.change.request_id
        return self._replies.publish_summary(replies, command.name, command.group, request_id, command.origin)
