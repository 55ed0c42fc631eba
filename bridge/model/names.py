"""Which names may stand in a topic, a URL or a terminal's path (CONTRACT, section 4)."""

import re

from bridge.model.json_schema import JsonSchema

SERIAL_NUMBER = re.compile(r"[A-Za-z0-9_-]{1,64}")
GROUP_NAME = SERIAL_NUMBER
PERSON_ID = re.compile(r"[A-Za-z0-9_.@-]{1,64}")

ALL_TERMINALS = "all"
"""The group of every known terminal; no configured group may take its name."""

MAXIMUM_REQUEST_ID_LENGTH = 128
"""Characters a `request_id` may have."""


SERIAL_NUMBER_SCHEMA: JsonSchema = {
    "type": "string",
    "pattern": f"^{SERIAL_NUMBER.pattern}$",
    "description": "the terminal's serial number",
}
GROUP_NAME_SCHEMA: JsonSchema = {"type": "string", "pattern": f"^{GROUP_NAME.pattern}$", "description": "the group"}
PERSON_ID_SCHEMA: JsonSchema = {
    "type": "string",
    "pattern": f"^{PERSON_ID.pattern}$",
    "description": "the person's id; digits without leading zeros are the only ones the terminals' vendor shows",
}
REQUEST_ID_SCHEMA: JsonSchema = {
    "type": ["string", "null"],
    "maxLength": MAXIMUM_REQUEST_ID_LENGTH,
    "description": "the asker's own mark, returned in every reply to the command",
}


def is_serial_number(text: str) -> bool:
    """Tell whether a terminal's SN may be called this."""
    return SERIAL_NUMBER.fullmatch(text) is not None


def is_group_name(text: str) -> bool:
    """Tell whether a group may be addressed as this; `all` may, though none can be defined under it."""
    return GROUP_NAME.fullmatch(text) is not None


def is_person_id(text: str) -> bool:
    """Tell whether a person may have this id."""
    return PERSON_ID.fullmatch(text) is not None
