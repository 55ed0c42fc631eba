"""Rules as Mosquitto takes them: for its `acl_file`, and for its dynamic security plugin."""

import re
from collections.abc import Sequence
from typing import Any

import orjson

from bridge.mqtt.access.roles import AccessRule, TopicAccess

_USER = re.compile(r"[A-Za-z0-9_.@-]{1,64}")

USER_RULE = "must be 1 to 64 letters, digits and _ . @ -"
"""What a broker user may be called. An acl_file has no quoting: a name with a line break would write rules of its own.
And the name is a level of its user's Response Topics, where `/`, `+` and `#` would reach those of others."""

_DYNSEC_TYPES = {
    TopicAccess.READ: ("subscribePattern", "publishClientReceive"),
    TopicAccess.WRITE: ("publishClientSend",),
}


def is_user_name(text: str) -> bool:
    """Tell whether a broker user may be called this; `USER_RULE` says what is allowed."""
    return _USER.fullmatch(text) is not None


def acl_file(user: str, rules: Sequence[AccessRule], comment: str) -> str:
    """Return a user's part of an acl_file.

    Args:
        user: a name that `is_user_name` allows.
        rules: what it may do.
        comment: one line that says where this comes from.
    """
    lines = [f"# {comment}", f"user {user}", *(f"topic {rule.access} {rule.topic}" for rule in rules)]
    return "\n".join(lines) + "\n"


def dynamic_security(user: str, rules: Sequence[AccessRule], comment: str) -> str:
    """Return a message for `$CONTROL/dynamic-security/v1` that makes a user and a role of its own, or renews them.

    Each command is answered for itself: where role or client is there already, making it fails, and what follows makes
    it right. The client has no password yet, and cannot log in, until it is given one.
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
