"""Who may do what at the broker: every topic of the bridge (CONTRACT, section 4) stands here with its roles."""

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
"""The level that stands for every terminal or group."""

_HOME_ASSISTANT_PREFIX = "homeassistant"
"""Where Home Assistant says that it has started unless it was told another prefix."""


class Role(StrEnum):
    """What somebody is to the building."""

    ADMIN = "admin"
    OPERATOR = "operator"
    ENROLLER = "enroller"
    WATCHER = "watcher"
    HOME_ASSISTANT = "home_assistant"
    BRIDGE = "bridge"


ABOUT_ROLES: Mapping[Role, str] = {
    Role.ADMIN: "publishes every command and reads everything",
    Role.OPERATOR: "opens, and reads states and replies",
    Role.ENROLLER: "changes, lists and syncs persons, and reads states and replies",
    Role.WATCHER: "reads states, events and groups' summaries; no replies, which can name persons",
    Role.HOME_ASSISTANT: "presses the buttons that discovery makes (open, reboot, sync), reads what its entities show",
    Role.BRIDGE: "the user of `mqtt.username`: obeys commands, publishes everything else, and discovery",
}
"""What each role may do, in a few words."""

_PEOPLE = frozenset({Role.ADMIN, Role.OPERATOR, Role.ENROLLER, Role.WATCHER})
_COMMANDING = frozenset({Role.ADMIN, Role.OPERATOR, Role.ENROLLER})

PUBLISHERS: Mapping[str, frozenset[Role]] = {
    OPEN.name: frozenset({Role.ADMIN, Role.OPERATOR, Role.HOME_ASSISTANT}),
    # As over HTTP (CONTRACT, section 6): an operator opens and reads, rebooting takes an admin.
    REBOOT.name: frozenset({Role.ADMIN, Role.HOME_ASSISTANT}),
    SET_PERSONS.name: frozenset({Role.ADMIN, Role.ENROLLER}),
    REMOVE_PERSONS.name: frozenset({Role.ADMIN, Role.ENROLLER}),
    GET_PERSONS.name: frozenset({Role.ADMIN, Role.ENROLLER}),
    SYNC_PERSONS.name: frozenset({Role.ADMIN, Role.ENROLLER, Role.HOME_ASSISTANT}),
    ADMIT.name: frozenset({Role.ADMIN}),
    FORGET.name: frozenset({Role.ADMIN}),
}
"""Who may ask for each command, by its name; one without a line here has no publisher, and fails a test."""


class TopicAccess(StrEnum):
    """What a rule allows."""

    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One thing a user may do; whatever no rule allows is denied.

    Attributes:
        access: to read is to subscribe and be sent, to write is to publish.
        topic: a filter; `+` and a final `#` as MQTT has them.
    """

    access: TopicAccess
    topic: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Which doors a role is limited to; none at all means every one.

    Attributes:
        sns: single terminals.
        groups: groups, asked for as such: their members are not addressed one by one.
    """

    sns: Sequence[str] = ()
    groups: Sequence[str] = ()

    @property
    def are_all(self) -> bool:
        """Whether nothing is limited."""
        return not self.sns and not self.groups

    def named(self, scope: Scope) -> Sequence[str]:
        """Return the levels that stand for them in a topic; the bridge is asked only by who may ask for every door."""
        if self.are_all:
            return (_EVERY,)
        return {Scope.TERMINAL: self.sns, Scope.GROUP: self.groups}.get(scope, ())


class UnlimitedRoleError(ValueError):
    """A role that is about every door was to be limited to some.

    Attributes:
        role: that role.
    """

    def __init__(self, role: Role) -> None:
        super().__init__(f"the role {role} is about every terminal and cannot be limited to some")
        self.role = role


def reply_topics(base: str, user: str) -> str:
    """Return the filter of the Response Topics that a user may name, outside the base as the bridge asks.

    Args:
        base: `mqtt.base_topic`.
        user: its name, or `+` for everyone's.
    """
    return f"{base}-replies/{user}/#"


def rules_of(
    roles: Collection[Role], user: str, *, base: str, prefix: str, doors: Doors = Doors()
) -> Sequence[AccessRule]:
    """Return what somebody of these roles may do, each rule once.

    Args:
        roles: at least one; the rules of several add up.
        user: their name at the broker.
        base: `mqtt.base_topic`.
        prefix: `homeassistant.prefix`.
        doors: what the roles of people are limited to.

    Raises:
        UnlimitedRoleError: for one of the programs' roles with `doors` given.
    """
    rules: dict[AccessRule, None] = {}
    for role in Role:
        if role not in roles:
            continue
        if not doors.are_all and role not in _PEOPLE:
            raise UnlimitedRoleError(role)
        if role is Role.BRIDGE:
            found = _bridge_rules(base, prefix)
        else:
            found = _rules_of_others(role, Topics(base), doors)
            if role in _COMMANDING:
                # Written too: a word to oneself, sent before a press, tells whether the broker is prompt.
                found += [AccessRule(access, reply_topics(base, user)) for access in TopicAccess]
            elif role is Role.HOME_ASSISTANT:
                found += [
                    AccessRule(TopicAccess.READ, f"{prefix}/#"),
                    AccessRule(TopicAccess.WRITE, f"{prefix}/status"),
                ]
        rules.update(dict.fromkeys(found))
    return list(rules)


def command_topics(topics: Topics, definition: CommandDefinition, doors: Doors = Doors()) -> Sequence[str]:
    """Return where a command can be asked for."""
    return [topics.command(scope, name, definition) for scope in scopes(definition) for name in doors.named(scope)]


def _rules_of_others(role: Role, topics: Topics, doors: Doors) -> list[AccessRule]:
    sns, groups = doors.named(Scope.TERMINAL), doors.named(Scope.GROUP)
    written = [
        topic
        for definition in COMMANDS
        if role in PUBLISHERS.get(definition.name, ())
        for topic in command_topics(topics, definition, doors)
    ]
    read = [topics.bridge_availability, topics.bridge_info]
    if doors.are_all:
        read.append(topics.bridge_event)
    for sn in sns:
        read += [topics.terminal_availability(sn), topics.terminal_state(sn)]
    if role is not Role.WATCHER:
        # A reply to person/get holds names and card numbers, and every other one of a person its id.
        read += [topics.terminal_reply(sn) for sn in sns]
        if doors.are_all:
            read.append(topics.bridge_reply)
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
        topics.group_reply(_EVERY),
        f"{prefix}/device/+/config",
        f"{base}/doctor/#",
        # What others name as their Response Topic is published with the bridge's rights: these and nothing else.
        reply_topics(base, _EVERY),
    ]
    read = [
        topics.bridge_heartbeat,
        f"{base}/doctor/#",
        "$SYS/broker/#",
        *topics.urgent_commands,
        *topics.lasting_commands,
        *dict.fromkeys((f"{prefix}/status", f"{_HOME_ASSISTANT_PREFIX}/status")),
    ]
    return [
        *(AccessRule(TopicAccess.WRITE, topic) for topic in written),
        *(AccessRule(TopicAccess.READ, topic) for topic in read),
    ]
