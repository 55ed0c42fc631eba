"""Every topic the bridge publishes and obeys (CONTRACT, section 4), built and read in this one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from bridge.core.command_definition import CommandDefinition
from bridge.core.commands import COMMANDS
from bridge.core.terminal_state import TERMINAL_STATE_SCHEMA
from bridge.model.bridge_summary import BRIDGE_SUMMARY_SCHEMA
from bridge.model.events import PUBLIC_EVENT_SCHEMA
from bridge.model.json_schema import JsonSchema, choice, text
from bridge.model.names import is_group_name, is_serial_number
from bridge.model.reply import GROUP_SUMMARY_SCHEMA, REPLY_SCHEMA


class Scope(StrEnum):
    """What a command is asked of; the value stands in its topic."""

    TERMINAL = "terminal"
    GROUP = "group"
    BRIDGE = "bridge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What the bridge publishes on one kind of topic.

    Attributes:
        scope: what it is about.
        level: what follows the scope, or the terminal's or group's name, in the topic.
        description: when it is published and what it means.
        payloads: the schemas of what it may be.
        retain: whether the broker keeps it.
        qos: it is published with.
        is_json: whether the payload is JSON, rather than plain text.
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

BRIDGE_AVAILABILITY = Publication(
    scope=Scope.BRIDGE,
    level="availability",
    description="Whether the bridge serves: `online` once everything is subscribed; `offline` is also its will.",
    payloads=(AVAILABILITY_SCHEMA,),
    retain=True,
    is_json=False,
)
BRIDGE_INFO = Publication(
    scope=Scope.BRIDGE,
    level="info",
    description="The bridge as a whole, at most once a second.",
    payloads=(BRIDGE_SUMMARY_SCHEMA,),
    retain=True,
)
BRIDGE_HEARTBEAT = Publication(
    scope=Scope.BRIDGE,
    level="heartbeat",
    description="The bridge's own: it measures the way through the broker. Nobody else's business, and never to be "
    "published by others.",
    payloads=({"title": "Heartbeat", **text("a nonce")},),
    is_json=False,
)
BRIDGE_EVENT = Publication(
    scope=Scope.BRIDGE,
    level="event",
    description="What happened, at most 50 a second.",
    payloads=(PUBLIC_EVENT_SCHEMA,),
    qos=0,
)
BRIDGE_REPLY = Publication(
    scope=Scope.BRIDGE,
    level="reply",
    description="Replies to commands of the bridge, and to those for names that no terminal or group can have.",
    payloads=(REPLY_SCHEMA,),
)
TERMINAL_AVAILABILITY = Publication(
    scope=Scope.TERMINAL,
    level="availability",
    description="Whether the terminal is connected. Cleared when it is forgotten.",
    payloads=(AVAILABILITY_SCHEMA,),
    retain=True,
    is_json=False,
)
TERMINAL_STATE = Publication(
    scope=Scope.TERMINAL,
    level="state",
    description="The terminal, its persons in numbers and its last reply. Cleared when it is forgotten.",
    payloads=(TERMINAL_STATE_SCHEMA,),
    retain=True,
)
TERMINAL_REPLY = Publication(
    scope=Scope.TERMINAL,
    level="reply",
    description="Replies to the commands for one terminal, those to its groups included.",
    payloads=(REPLY_SCHEMA,),
)
GROUP_REPLY = Publication(
    scope=Scope.GROUP,
    level="reply",
    description="The summary of a command once every member has ended; a reply where it was not taken at all.",
    payloads=(GROUP_SUMMARY_SCHEMA, REPLY_SCHEMA),
)

PUBLICATIONS = (
    BRIDGE_AVAILABILITY,
    BRIDGE_INFO,
    BRIDGE_HEARTBEAT,
    BRIDGE_EVENT,
    BRIDGE_REPLY,
    TERMINAL_AVAILABILITY,
    TERMINAL_STATE,
    TERMINAL_REPLY,
    GROUP_REPLY,
)
"""Everything below the base that the bridge publishes."""


@dataclass(frozen=True, slots=True)
class Address:
    """What a command topic says.

    Attributes:
        scope: what kind of thing is asked.
        name: the SN or the group's name as it came, well-formed or not; empty for the bridge.
        definition: which command.
    """

    scope: Scope
    name: str
    definition: CommandDefinition

    @property
    def is_well_formed(self) -> bool:
        """Whether anything can have this name."""
        if self.scope is Scope.TERMINAL:
            return is_serial_number(self.name)
        return self.scope is Scope.BRIDGE or is_group_name(self.name)


class Topics:
    """The topics below one base."""

    def __init__(self, base: str, discovery_prefix: str | None = None) -> None:
        """Lay out the topics.

        Args:
            base: `mqtt.base_topic`: one or more levels, without wildcards or a slash at either end.
            discovery_prefix: `homeassistant.prefix`, likewise, for who has to tell what `is_reserved`.
        """
        self.base = base
        self._discovery_prefix = discovery_prefix
        self.bridge_availability = self.of(BRIDGE_AVAILABILITY)
        self.bridge_info = self.of(BRIDGE_INFO)
        self.bridge_heartbeat = self.of(BRIDGE_HEARTBEAT)
        self.bridge_event = self.of(BRIDGE_EVENT)
        self.bridge_reply = self.of(BRIDGE_REPLY)
        self._named = {(scope, definition.topic): definition for definition in COMMANDS for scope in scopes(definition)}

    def of(self, publication: Publication, name: str = "") -> str:
        """Return where something is published; `name` is the terminal's or group's."""
        return self._topic(publication.scope, name, publication.level)

    def terminal_availability(self, sn: str) -> str:
        """Return where `online` or `offline` of a terminal is retained."""
        return self.of(TERMINAL_AVAILABILITY, sn)

    def terminal_state(self, sn: str) -> str:
        """Return where the state of a terminal is retained."""
        return self.of(TERMINAL_STATE, sn)

    def terminal_reply(self, sn: str) -> str:
        """Return where a terminal's replies go."""
        return self.of(TERMINAL_REPLY, sn)

    def group_reply(self, group: str) -> str:
        """Return where a group's summaries go."""
        return self.of(GROUP_REPLY, group)

    def command(self, scope: Scope, name: str, definition: CommandDefinition) -> str:
        """Return where a command is asked; `+` as the name for every one."""
        return self._topic(scope, name, definition.topic)

    @property
    def urgent_commands(self) -> Sequence[str]:
        """The filters of the live connection: what must not be late."""
        return self._filters(urgent=True)

    @property
    def lasting_commands(self) -> Sequence[str]:
        """The filters of the intake connection: what must not get lost."""
        return self._filters(urgent=False)

    def parse(self, topic: str) -> Address | None:
        """Return what a command topic says, None for any other topic."""
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
        """Tell whether a topic is the base or below it."""
        return _is_within(topic, self.base)

    def is_reserved(self, topic: str) -> bool:
        """Tell whether what is published there passes for the bridge's own word, to its users or to Home Assistant."""
        return self.holds(topic) or (self._discovery_prefix is not None and _is_within(topic, self._discovery_prefix))

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
    """Return what a command can be asked of."""
    return [
        scope
        for scope, applies in (
            (Scope.TERMINAL, definition.for_terminal),
            (Scope.GROUP, definition.for_group),
            (Scope.BRIDGE, definition.for_bridge),
        )
        if applies
    ]
