"""From a message to a command: what both connections ask of it before anything is done."""

from dataclasses import dataclass

from bridge.core.clock import Clock
from bridge.core.command_definition import InvalidCommandError
from bridge.core.event_bus import EventBus
from bridge.core.replies import ReplyBuilder, ReplyDispatcher
from bridge.model.commands import Command
from bridge.model.faults import Fault, shorten
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.mqtt.client.connection import Message
from bridge.mqtt.topics import Address, Scope, Topics


@dataclass(frozen=True, slots=True)
class PayloadLimit:
    """How large a command may be.

    Attributes:
        size: bytes.
        advice: what would be right instead of a larger one.
    """

    size: int
    advice: str


class CommandReader:
    """Reads command messages, and answers those that cannot be obeyed."""

    def __init__(self, topics: Topics, events: EventBus, clock: Clock) -> None:
        self._topics = topics
        self._replies = ReplyDispatcher(events, clock)

    def read(
        self,
        message: Message,
        address: Address,
        origin: Origin,
        *,
        size: int,
        limit: PayloadLimit,
        may_be_empty: bool = True,
    ) -> Command | None:
        """Return the command a message holds; None where whoever asked has been told why there is none.

        Args:
            message: as it came in.
            address: what its topic says.
            origin: who asked.
            size: bytes its payload had; one beyond the limit need not be there any more.
            limit: what it may have.
            may_be_empty: False where an empty payload can as well be the end of a retained press (MQTT 3.1.1).
        """
        fault = _fault_of(message, address, size, limit, may_be_empty=may_be_empty)
        if fault is not None:
            self.invalid(address, origin, [fault])
            return None
        try:
            return address.definition.parse(message.payload, address.name)
        except InvalidCommandError as error:
            self.invalid(address, origin, error.faults, error.request_id)
            return None

    def invalid(
        self, address: Address, origin: Origin, faults: list[Fault] | tuple[Fault, ...], request_id: str | None = None
    ) -> None:
        """Tell whoever asked that a command cannot be obeyed."""
        asked = self._asked(address, request_id)
        group = address.name if address.scope is Scope.GROUP and address.is_well_formed else None
        self._replies.publish(asked.invalid(faults, group=group), origin)

    def unavailable(self, address: Address, origin: Origin, message: str, request_id: str | None = None) -> None:
        """Tell whoever asked that the bridge cannot take a command now."""
        asked = self._asked(address, request_id)
        group = address.name if address.scope is Scope.GROUP and address.is_well_formed else None
        reply = asked.reply(Outcome.UNAVAILABLE, message=message, delivered=False, group=group)
        self._replies.publish(reply, origin)

    def _asked(self, address: Address, request_id: str | None) -> ReplyBuilder:
        sn = address.name if address.scope is Scope.TERMINAL and address.is_well_formed else None
        return self._replies.builder(address.definition.name, request_id, sn)


def _fault_of(
    message: Message, address: Address, size: int, limit: PayloadLimit, *, may_be_empty: bool
) -> Fault | None:
    if not address.is_well_formed:
        what = "an SN" if address.scope is Scope.TERMINAL else "a group's name"
        return Fault("topic", f"{what} has 1 to 64 letters, digits, _ and -, not {shorten(address.name)!r}")
    if message.retain:
        if not size:
            return Fault("", "retained and empty: the end of a retained command, not a command; not carried out")
        return Fault("", "a retained command is not obeyed: publish it without the retain flag")
    if size > limit.size:
        return Fault("", f"has {size} bytes, at most {limit.size} are taken: {limit.advice}")
    if not size and not may_be_empty:
        return Fault("", "empty: over MQTT 3.1.1 the end of a retained press looks the same; publish PRESS")
    return None
