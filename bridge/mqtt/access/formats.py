"""Formats of access rules: Mosquitto's `acl_file` and its dynamic security plugin."""

import re
from collections.abc import Sequence
from typing import Any

import orjson

from bridge.mqtt.access.roles import AccessRule, TopicAccess

_USER = re.compile(r"[A-Za-z0-9_.@-]{1,64}")

USER_RULE = "must be 1 to 64 letters, digits and _ . @ -"
"""The rule for names of broker users. An acl_file has no quoting: a name with a line break could add rules. And the
name is a level of the user's Response Topics, where `/`, `+` and `#` would match those of others."""

_DYNSEC_TYPES = {
    TopicAccess.READ: ("subscribePattern", "publishClientReceive"),
    TopicAccess.WRITE: ("publishClientSend",),
}


def is_user_name(text: str) -> bool:
    """Return whether a name follows `USER_RULE`."""
    return _USER.fullmatch(text) is not None


def acl_file(user: str, rules: Sequence[AccessRule], comment: str) -> str:
    """Return a user's part of an acl_file.

    Args:
        user: a name that `is_user_name` allows.
        rules: the user's rules.
        comment: one line that says how the part was made.
    """
    lines = [f"# {comment}", f"user {user}", *(f"topic {rule.access} {rule.topic}" for rule in rules)]
    return "\n".join(lines) + "\n"


def dynamic_security(user: str, rules: Sequence[AccessRule], comment: str) -> str:
    """Return a message for `$CONTROL/dynamic-security/v1` that creates or updates a user with a role of its own.

    The plugin carries out each command separately: if the role or the client exists, creating it fails, and the next
    command updates it. A new client has no password and cannot log in until it gets one.
    """
    role = f"facebridge-{user}"
    access_rules = [
        {"acltype": kind, "topic": rule.topic, "priority": 0, "allow": True}
        for rule in rules
        for kind in _DYNSEC_TYPES[rule.access]
    ]
    commands: list[dict[str, Any]] = [
        {"command": "createRole", "rolename": role},
        {"command": "modifyRole", "rolename": role, "textdescription": comment, "acls": access_rules},
        {"command": "createClient", "username": user},
        {"command": "addClientRole", "username": user, "rolename": role},
    ]
    return orjson.dumps({"commands": commands}, option=orjson.OPT_INDENT_2).decode() + "\n"
