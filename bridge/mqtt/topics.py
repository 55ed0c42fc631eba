"""All topics of the bridge (docs/mqtt.md): building them and reading them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from bridge.core.command_definition import CommandDefinition
from bridge.core.commands import ADMIT, COMMANDS, FORGET
from bridge.core.terminal_state import TERMINAL_STATE_SCHEMA
from bridge.model.bridge_summary import BRIDGE_SUMMARY_SCHEMA
from bridge.model.events import PUBLIC_EVENT_SCHEMA, TERMINAL_MESSAGE_SCHEMA
from bridge.model.json_schema import JsonSchema, choice, text
from bridge.model.names import is_group_name, is_serial_number
from bridge.model.reply import GROUP_SUMMARY_SCHEMA, REPLY_SCHEMA, Reply

MAXIMUM_RESPONSE_TOPIC_LENGTH = 512
"""Characters of a Response Topic: several times what clients use. It is stored with every person change."""


_SET = "/set"


class Scope(StrEnum):
    """The kind of addressee of a command; the value is a level of its topic."""

    TERMINAL = "terminal"
    GROUP = "group"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedTopic:
    """What the bridge publishes on one kind of topic.

    Attributes:
        scope: what it describes.
        level: the topic's last level, after the scope and the terminal's or group's name.
        description: when it is published and what it means.
        payloads: the schemas of its payloads.
        retain: whether the broker retains it.
        qos: its QoS.
        is_json: whether the payload is JSON rather than plain text.
    """

    scope: Scope
    level: str
    description: str
    payloads: tuple[JsonSchema, ...]
    retain: bool = False
    qos: Literal[0, 1] = 1
    is_json: bool = True


AVAILABILITY_SCHEMA = choice(
    {"online": "it is there", "offline": "it is not"}, title="Availability", description="Whether something is there."
)

BRIDGE_AVAILABILITY = PublishedTopic(
    scope=Scope.BRIDGE,
    level="availability",
    description="Whether the bridge is ready: `online` after all its subscriptions; `offline` is also its will.",
    payloads=(AVAILABILITY_SCHEMA,),
    retain=True,
    is_json=False,
)
BRIDGE_INFO = PublishedTopic(
    scope=Scope.BRIDGE,
    level="info",
    description="A summary of the bridge, at most once a second.",
    payloads=(BRIDGE_SUMMARY_SCHEMA,),
    retain=True,
)
BRIDGE_HEARTBEAT = PublishedTopic(
    scope=Scope.BRIDGE,
    level="heartbeat",
    description="Published and read by the bridge only: it measures the way through the broker. Others must not "
    "publish it.",
    payloads=({"title": "Heartbeat", **text("a nonce")},),
    is_json=False,
)
BRIDGE_EVENT = PublishedTopic(
    scope=Scope.BRIDGE,
    level="event",
    description="Events, at most 50 a second.",
    payloads=(PUBLIC_EVENT_SCHEMA,),
    qos=0,
)
BRIDGE_REPLY = PublishedTopic(
    scope=Scope.BRIDGE,
    level="reply",
    description="Replies to commands for the bridge, and to commands for invalid names of terminals or groups.",
    payloads=(REPLY_SCHEMA,),
)
TERMINAL_AVAILABILITY = PublishedTopic(
    scope=Scope.TERMINAL,
    level="availability",
    description="Whether the terminal is connected. Cleared when it is forgotten.",
    payloads=(AVAILABILITY_SCHEMA,),
    retain=True,
    is_json=False,
)
TERMINAL_STATE = PublishedTopic(
    scope=Scope.TERMINAL,
    level="state",
    description="The terminal, the numbers of its persons and its last reply. Cleared when it is forgotten.",
    payloads=(TERMINAL_STATE_SCHEMA,),
    retain=True,
)
TERMINAL_REPLY = PublishedTopic(
    scope=Scope.TERMINAL,
    level="reply",
    description="Replies to the commands for one terminal, also to those for its groups.",
    payloads=(REPLY_SCHEMA,),
)
TERMINAL_MESSAGE = PublishedTopic(
    scope=Scope.TERMINAL,
    level="message",
    description="Messages of the terminal that the protocol does not know, only with `terminals.forward_messages`: at "
    "most 64 KiB each and ten a second. They can name persons.",
    payloads=(TERMINAL_MESSAGE_SCHEMA,),
    qos=0,
)
GROUP_REPLY = PublishedTopic(
    scope=Scope.GROUP,
    level="reply",
    description="The summary of a command after the last member's reply; a reply if the command was not accepted.",
    payloads=(GROUP_SUMMARY_SCHEMA, REPLY_SCHEMA),
)

PUBLISHED_TOPICS = (
    BRIDGE_AVAILABILITY,
    BRIDGE_INFO,
    BRIDGE_HEARTBEAT,
    BRIDGE_EVENT,
    BRIDGE_REPLY,
    TERMINAL_AVAILABILITY,
    TERMINAL_STATE,
    TERMINAL_REPLY,
    TERMINAL_MESSAGE,
    GROUP_REPLY,
)
"""Everything that the bridge publishes below its base topic."""


@dataclass(frozen=True, slots=True)
class Address:
    """The addressee and the command that a topic names.

    Attributes:
        scope: the kind of addressee.
        name: the SN or the group's name as received, well-formed or not; empty for the bridge.
        definition: the command.
    """

    scope: Scope
    name: str
    definition: CommandDefinition

    @property
    def is_well_formed(self) -> bool:
        """Whether the name is a valid one."""
        if self.scope is Scope.TERMINAL:
            return is_serial_number(self.name)
        return self.scope is Scope.BRIDGE or is_group_name(self.name)


class Topics:
    """The topics below one base topic."""

    def __init__(self, base: str, discovery_prefix: str | None = None) -> None:
        """Build the fixed topics.

        Args:
            base: `mqtt.base_topic`: one or more levels, without wildcards or a slash at either end.
            discovery_prefix: `homeassistant.prefix`, of the same form; `allows_response_topic` needs it.
        """
        self.base = base
        self._discovery_prefix = discovery_prefix
        self.bridge_availability = self.of(BRIDGE_AVAILABILITY)
        self.bridge_info = self.of(BRIDGE_INFO)
        self.bridge_heartbeat = self.of(BRIDGE_HEARTBEAT)
        self.bridge_event = self.of(BRIDGE_EVENT)
        self.bridge_reply = self.of(BRIDGE_REPLY)
        self._named = {(scope, definition.topic): definition for definition in COMMANDS for scope in scopes(definition)}

    def of(self, publication: PublishedTopic, name: str = "") -> str:
        """Return the topic of a publication; `name` is the terminal's SN or the group's name."""
        return self._topic(publication.scope, name, publication.level)

    def terminal_availability(self, sn: str) -> str:
        """Return the topic of a terminal's availability."""
        return self.of(TERMINAL_AVAILABILITY, sn)

    def terminal_state(self, sn: str) -> str:
        """Return the topic of a terminal's state."""
        return self.of(TERMINAL_STATE, sn)

    def terminal_reply(self, sn: str) -> str:
        """Return the topic of a terminal's replies."""
        return self.of(TERMINAL_REPLY, sn)

    def terminal_message(self, sn: str) -> str:
        """Return the topic of a terminal's messages that the protocol does not know."""
        return self.of(TERMINAL_MESSAGE, sn)

    def group_reply(self, group: str) -> str:
        """Return the topic of a group's summaries."""
        return self.of(GROUP_REPLY, group)

    def reply(self, reply: Reply) -> str:
        """Return the public topic of a reply."""
        if reply.command in (ADMIT.name, FORGET.name):
            return self.bridge_reply
        if reply.group is not None:
            return self.group_reply(reply.group)
        return self.bridge_reply if reply.sn is None else self.terminal_reply(reply.sn)

    def command(self, scope: Scope, name: str, definition: CommandDefinition) -> str:
        """Return the topic of a command; with the name `+`, the filter for every name."""
        return self._topic(scope, name, definition.topic)

    @property
    def urgent_commands(self) -> Sequence[str]:
        """The topic filters of the live connection: commands that must not be late."""
        return self._filters(urgent=True)

    @property
    def lasting_commands(self) -> Sequence[str]:
        """The topic filters of the intake connection: commands that must not get lost."""
        return self._filters(urgent=False)

    @property
    def incomplete_commands(self) -> Sequence[str]:
        """The topic filters of presses without their last level, a usual mistake that is answered."""
        return [one.removesuffix(_SET) for one in self.urgent_commands]

    def completed(self, topic: str) -> str | None:
        """Return the command topic for one whose last level is missing; None for any other topic."""
        address = self.parse(f"{topic}{_SET}")
        return f"{topic}{_SET}" if address is not None and address.definition.urgent else None

    def parse(self, topic: str) -> Address | None:
        """Return what a command topic addresses, None for any other topic."""
        if not topic.startswith(f"{self.base}/"):
            return None
        scope_level, _, rest = topic[len(self.base) + 1 :].partition("/")
        if scope_level == Scope.BRIDGE:
            scope, name, command = Scope.BRIDGE, "", rest
        elif scope_level in (Scope.TERMINAL, Scope.GROUP):
            scope = Scope(scope_level)
            name, _, command = rest.partition("/")
        else:
            return None
        definition = self._named.get((scope, command))
        return None if definition is None else Address(scope, name, definition)

    def holds(self, topic: str) -> bool:
        """Return whether a topic is the base topic or below it."""
        return _is_within(topic, self.base)

    def allows_response_topic(self, topic: str) -> bool:
        """Return whether the bridge may publish a reply to a Response Topic that a client chose.

        Not below the base topic: a reply there could be a command, or look like a message of the bridge. Not below
        Home Assistant's discovery prefix: it would replace a device's discovery. Not below `$`, where brokers have
        their control topics (`$CONTROL/dynamic-security`). Topics are compared as they are: they differ by case and
        by a leading slash (MQTT 5, section 4.7.3).
        """
        return (
            0 < len(topic) <= MAXIMUM_RESPONSE_TOPIC_LENGTH
            and not topic.startswith("$")
            and topic.isprintable()
            and not any(character in topic for character in "+#")
            and not self.holds(topic)
            and not (self._discovery_prefix is not None and _is_within(topic, self._discovery_prefix))
        )

    def _topic(self, scope: Scope, name: str, levels: str) -> str:
        named = "" if scope is Scope.BRIDGE else f"/{name}"
        return f"{self.base}/{scope.value}{named}/{levels}"

    def _filters(self, *, urgent: bool) -> Sequence[str]:
        return [
            self.command(scope, "+", definition)
            for definition in COMMANDS
            if definition.urgent is urgent
            for scope in scopes(definition)
        ]


def _is_within(topic: str, root: str) -> bool:
    return topic == root or topic.startswith(f"{root}/")


def scopes(definition: CommandDefinition) -> Sequence[Scope]:
    """Return the kinds of addressees that a command can have."""
    return [
        scope
        for scope, applies in (
            (Scope.TERMINAL, definition.for_terminal),
            (Scope.GROUP, definition.for_group),
            (Scope.BRIDGE, definition.for_bridge),
        )
        if applies
    ]
