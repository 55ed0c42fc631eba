"""The rules for names in topics, URLs and terminals' paths (docs/mqtt.md)."""

import re

from bridge.model.json_schema import JsonSchema

SERIAL_NUMBER = re.compile(r"[A-Za-z0-9_-]{1,64}")
GROUP_NAME = SERIAL_NUMBER
PERSON_ID = re.compile(r"[A-Za-z0-9_.@-]{1,64}")

ALL_TERMINALS = "all"
"""The group of every known terminal. No configured group may have this name."""

MAXIMUM_REQUEST_ID_LENGTH = 128
"""Characters of a `request_id`."""

SERIAL_NUMBER_SCHEMA: JsonSchema = {
    "type": "string",
    "pattern": f"^{SERIAL_NUMBER.pattern}$",
    "description": "the terminal's serial number",
}
GROUP_NAME_SCHEMA: JsonSchema = {"type": "string", "pattern": f"^{GROUP_NAME.pattern}$", "description": "the group"}
PERSON_ID_SCHEMA: JsonSchema = {
    "type": "string",
    "pattern": f"^{PERSON_ID.pattern}$",
    "description": "the person's id; the terminals' vendor shows only digits without leading zeros",
}
REQUEST_ID_SCHEMA: JsonSchema = {
    "type": ["string", "null"],
    "maxLength": MAXIMUM_REQUEST_ID_LENGTH,
    "description": "chosen by the sender, returned in every reply to the command; printable characters",
}


def is_serial_number(text: str) -> bool:
    """Return whether this can be a terminal's serial number."""
    return SERIAL_NUMBER.fullmatch(text) is not None


def is_group_name(text: str) -> bool:
    """Return whether a command can address a group by this name. `all` can be addressed, but not configured."""
    return GROUP_NAME.fullmatch(text) is not None


def is_person_id(text: str) -> bool:
    """Return whether a person can have this id."""
    return PERSON_ID.fullmatch(text) is not None
