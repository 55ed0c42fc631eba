"""The roles of broker users: which topics of the bridge (docs/mqtt.md) each may publish and read."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bridge.core.command_definition import CommandDefinition
from bridge.core.commands import (
    ADMIT,
    COMMANDS,
    FORGET,
    GET_PERSONS,
    OPEN,
    REBOOT,
    REMOVE_PERSONS,
    SET_PERSONS,
    SYNC_PERSONS,
)
from bridge.mqtt.topics import Scope, Topics, scopes

_EVERY = "+"
"""The wildcard level: every terminal or group."""

_HOME_ASSISTANT_PREFIX = "homeassistant"
"""The first level of Home Assistant's birth topic by default."""


class Role(StrEnum):
    """The role of a broker user."""

    ADMIN = "admin"
    OPERATOR = "operator"
    ENROLLER = "enroller"
    WATCHER = "watcher"
    HOME_ASSISTANT = "home_assistant"
    BRIDGE = "bridge"


ROLE_DESCRIPTIONS: Mapping[Role, str] = {
    Role.ADMIN: "publishes every command and reads everything, also forwarded messages of terminals",
    Role.OPERATOR: "opens, and reads states and replies",
    Role.ENROLLER: "changes, lists and syncs persons, and reads states and replies",
    Role.WATCHER: "reads states, events and groups' summaries; no replies, which can name persons",
    Role.HOME_ASSISTANT: "presses the buttons that discovery makes (open, reboot, sync), reads what its entities show",
    Role.BRIDGE: "the user of `mqtt.username`: reads commands, publishes everything else, and discovery",
}
"""What each role may do, for people."""

_PEOPLE = frozenset({Role.ADMIN, Role.OPERATOR, Role.ENROLLER, Role.WATCHER})
_COMMANDING = frozenset({Role.ADMIN, Role.OPERATOR, Role.ENROLLER})

PUBLISHERS: Mapping[str, frozenset[Role]] = {
    OPEN.name: frozenset({Role.ADMIN, Role.OPERATOR, Role.HOME_ASSISTANT}),
    # As over HTTP (docs/http.md): an operator opens and reads; only an admin reboots.
    REBOOT.name: frozenset({Role.ADMIN, Role.HOME_ASSISTANT}),
    SET_PERSONS.name: frozenset({Role.ADMIN, Role.ENROLLER}),
    REMOVE_PERSONS.name: frozenset({Role.ADMIN, Role.ENROLLER}),
    GET_PERSONS.name: frozenset({Role.ADMIN, Role.ENROLLER}),
    SYNC_PERSONS.name: frozenset({Role.ADMIN, Role.ENROLLER, Role.HOME_ASSISTANT}),
    ADMIT.name: frozenset({Role.ADMIN}),
    FORGET.name: frozenset({Role.ADMIN}),
}
"""The roles that may publish each command, by its name. A command that is missing here fails a test."""


class TopicAccess(StrEnum):
    """The kind of access that a rule allows."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One permission of a user. Everything that no rule allows is denied.

    Attributes:
        access: to read is to subscribe and receive, to write is to publish.
        topic: a topic filter, with the wildcards `+` and `#`.
    """

    access: TopicAccess
    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalSelection:
    """The terminals and groups that a role is limited to; without any, it is not limited.

    Attributes:
        sns: single terminals.
        groups: groups, addressed as a group only: the rules do not cover their members' own topics.
    """

    sns: Sequence[str] = ()
    groups: Sequence[str] = ()

    @property
    def is_everything(self) -> bool:
        """Whether the role is not limited."""
        return not self.sns and not self.groups

    def levels(self, scope: Scope) -> Sequence[str]:
        """Return their levels in topics; the bridge is addressed only by a role that is not limited."""
        if self.is_everything:
            return (_EVERY,)
        return {Scope.TERMINAL: self.sns, Scope.GROUP: self.groups}.get(scope, ())


class UnlimitedRoleError(ValueError):
    """A role that always covers every terminal was given a selection.

    Attributes:
        role: the role.
    """

    def __init__(self, role: Role) -> None:
        super().__init__(f"the role {role} covers every terminal and cannot be limited to some")
        self.role = role


def reply_topics(base: str, user: str) -> str:
    """Return the filter of a user's Response Topics. The bridge does not reply to topics below its base topic.

    Args:
        base: `mqtt.base_topic`.
        user: the user's name, or `+` for all users.
    """
    return f"{base}-replies/{user}/#"


def rules_of(
    roles: Collection[Role], user: str, *, base: str, prefix: str, selection: TerminalSelection = TerminalSelection()
) -> Sequence[AccessRule]:
    """Return the rules of a user with these roles, each rule once.

    Args:
        roles: at least one; the rules of several add up.
        user: the user's name at the broker.
        base: `mqtt.base_topic`.
        prefix: `homeassistant.prefix`.
        selection: the terminals that people's roles are limited to.

    Raises:
        UnlimitedRoleError: a program's role was given with a selection.
    """
    rules: dict[AccessRule, None] = {}
    for role in Role:
        if role not in roles:
            continue
        if not selection.is_everything and role not in _PEOPLE:
            raise UnlimitedRoleError(role)
        if role is Role.BRIDGE:
            found = _bridge_rules(base, prefix)
        else:
            found = _other_rules(role, Topics(base), selection)
            if role in _COMMANDING:
                # Written too: a message to itself before a press shows the client whether the broker is prompt.
                found += [AccessRule(access, reply_topics(base, user)) for access in TopicAccess]
            elif role is Role.HOME_ASSISTANT:
                found += [
                    AccessRule(TopicAccess.READ, f"{prefix}/#"),
                    AccessRule(TopicAccess.WRITE, f"{prefix}/status"),
                ]
        rules.update(dict.fromkeys(found))
    return list(rules)


def command_topics(
    topics: Topics, definition: CommandDefinition, selection: TerminalSelection = TerminalSelection()
) -> Sequence[str]:
    """Return the topics of a command."""
    return [topics.command(scope, name, definition) for scope in scopes(definition) for name in selection.levels(scope)]


def _other_rules(role: Role, topics: Topics, selection: TerminalSelection) -> list[AccessRule]:
    sns, groups = selection.levels(Scope.TERMINAL), selection.levels(Scope.GROUP)
    written = [
        topic
        for definition in COMMANDS
        if role in PUBLISHERS.get(definition.name, ())
        for topic in command_topics(topics, definition, selection)
    ]
    read = [topics.bridge_availability, topics.bridge_info]
    if selection.is_everything:
        read.append(topics.bridge_event)
    for sn in sns:
        read += [topics.terminal_availability(sn), topics.terminal_state(sn)]
    if role is not Role.WATCHER:
        # A reply to person/get contains names and card numbers, every other reply to a person command an id.
        read += [topics.terminal_reply(sn) for sn in sns]
        if selection.is_everything:
            read.append(topics.bridge_reply)
    if role is Role.ADMIN:
        # A message that the protocol does not know can say who passed.
        read += [topics.terminal_message(sn) for sn in sns]
    read += [topics.group_reply(group) for group in groups]
    return [
        *(AccessRule(TopicAccess.WRITE, topic) for topic in written),
        *(AccessRule(TopicAccess.READ, topic) for topic in read),
    ]


def _bridge_rules(base: str, prefix: str) -> list[AccessRule]:
    topics = Topics(base)
    written = [
        topics.bridge_availability,
        topics.bridge_info,
        topics.bridge_heartbeat,
        topics.bridge_event,
        topics.bridge_reply,
        topics.terminal_availability(_EVERY),
        topics.terminal_state(_EVERY),
        topics.terminal_reply(_EVERY),
        topics.terminal_message(_EVERY),
        topics.group_reply(_EVERY),
        f"{prefix}/device/+/config",
        f"{base}/doctor/#",
        # Replies to clients' Response Topics are published with the bridge's rights: to these only.
        reply_topics(base, _EVERY),
    ]
    read = [
        topics.bridge_heartbeat,
        f"{base}/doctor/#",
        "$SYS/broker/#",
        *topics.urgent_commands,
        *topics.incomplete_commands,
        *topics.lasting_commands,
        *dict.fromkeys((f"{prefix}/status", f"{_HOME_ASSISTANT_PREFIX}/status")),
    ]
    return [
        *(AccessRule(TopicAccess.WRITE, topic) for topic in written),
        *(AccessRule(TopicAccess.READ, topic) for topic in read),
    ]
