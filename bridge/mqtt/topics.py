"""Every topic the bridge publishes and obeys (CONTRACT, section 4), built and read in this one place."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from bridge.hub.commands import COMMANDS, CommandDefinition
from bridge.model.names import is_group_name, is_serial_number


class Scope(StrEnum):
    """What a command is asked of; the value stands in its topic."""

    TERMINAL = "terminal"
    GROUP = "group"
    BRIDGE = "bridge"


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

    def __init__(self, base: str) -> None:
        """Lay out the topics.

        Args:
            base: `mqtt.base_topic`: one or more levels, without wildcards or a slash at either end.
        """
        self.base = base
        self.bridge_availability = f"{base}/bridge/availability"
        self.bridge_info = f"{base}/bridge/info"
        self.bridge_heartbeat = f"{base}/bridge/heartbeat"
        self.bridge_event = f"{base}/bridge/event"
        self.bridge_reply = f"{base}/bridge/reply"
        self._named = {
            (scope, definition.topic): definition for definition in COMMANDS for scope in _scopes(definition)
        }

    def terminal_availability(self, sn: str) -> str:
        """Return where `online` or `offline` of a terminal is retained."""
        return f"{self.base}/terminal/{sn}/availability"

    def terminal_state(self, sn: str) -> str:
        """Return where the state of a terminal is retained."""
        return f"{self.base}/terminal/{sn}/state"

    def terminal_reply(self, sn: str) -> str:
        """Return where a terminal's replies go."""
        return f"{self.base}/terminal/{sn}/reply"

    def group_reply(self, group: str) -> str:
        """Return where a group's summaries go."""
        return f"{self.base}/group/{group}/reply"

    def command(self, scope: Scope, name: str, definition: CommandDefinition) -> str:
        """Return where a command is asked; `+` as the name for every one."""
        level = "" if scope is Scope.BRIDGE else f"/{name}"
        return f"{self.base}/{scope.value}{level}/{definition.topic}"

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
        return topic == self.base or topic.startswith(f"{self.base}/")

    def _filters(self, *, urgent: bool) -> Sequence[str]:
        return [
            self.command(scope, "+", definition)
            for definition in COMMANDS
            if definition.urgent is urgent
            for scope in _scopes(definition)
        ]


def _scopes(definition: CommandDefinition) -> Sequence[Scope]:
    return [
        scope
        for scope, applies in (
            (Scope.TERMINAL, definition.for_terminal),
            (Scope.GROUP, definition.for_group),
            (Scope.BRIDGE, definition.for_bridge),
        )
        if applies
    ]
