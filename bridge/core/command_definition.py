"""The definition of a command: its name, its addressees and how its payload is read.

The commands themselves are in `commands.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from bridge.model.asked_at import parse_asked_at
from bridge.model.commands import Command
from bridge.model.faults import Fault, InvalidError, shorten, unknown_key
from bridge.model.json_schema import JsonSchema
from bridge.model.names import MAXIMUM_REQUEST_ID_LENGTH

PRESS = b"PRESS"
"""The payload of Home Assistant's buttons."""

NOTHING = b""
"""An empty payload."""


class InvalidCommandError(InvalidError):
    """A payload that is not a valid command.

    Attributes:
        request_id: the payload's request id, if it could be read.
    """

    def __init__(self, faults: list[Fault] | tuple[Fault, ...], request_id: str | None) -> None:
        super().__init__(faults)
        self.request_id = request_id


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandDefinition:
    """One command.

    Attributes:
        name: the reply's `command`; the terminal's own `cmd` if it has one.
        description: what it does, for people.
        topic: the levels after the target in its MQTT topic.
        urgent: whether it is carried out now or not at all. Other commands must not get lost, and keep their order.
        for_terminal: whether it can address one terminal.
        for_group: whether it can address a group.
        for_bridge: whether it can address the bridge.
        payload_schema: the schema of its JSON. Its descriptions say what a schema cannot express.
        plain: the accepted payloads that are not JSON: `PRESS` and the empty payload, both equal to an empty object.
        build: returns the command for a payload, or raises InvalidError.
        dated: whether its payload may contain `asked_at`.
    """

    name: str
    description: str
    topic: str
    payload_schema: JsonSchema
    plain: tuple[bytes, ...] = ()
    build: Callable[["Payload"], Command]
    dated: bool = False
    urgent: bool = False
    for_terminal: bool = False
    for_group: bool = False
    for_bridge: bool = False

    def parse(self, payload: bytes, target: str) -> Command:
        """Return the command that a payload holds.

        Args:
            payload: JSON, `PRESS` or nothing, as the command allows.
            target: the terminal's SN or the group's name, which a `confirm` must repeat; empty for the bridge.

        Raises:
            InvalidCommandError: with all faults.
        """
        try:
            value = {} if payload in self.plain else _decode(payload)
        except InvalidCommandError as error:
            if PRESS not in self.plain:
                raise
            example = 'publish PRESS, or an object such as {"request_id": "r1"}'
            faults = [Fault(fault.path, f"{fault.message}; {example}") for fault in error.faults]
            raise InvalidCommandError(faults, None) from None
        return self.build_from(value, target)

    def build_from(self, value: object, target: str) -> Command:
        """Return the command that decoded JSON holds, None for an empty payload. Raises InvalidCommandError."""
        if value is None and NOTHING in self.plain:
            value = {}
        request_id, faults = _read_request_id(value)
        if faults:
            raise InvalidCommandError(faults, None)
        try:
            asked_at = None
            if self.dated and isinstance(value, Mapping):
                asked_at = parse_asked_at(value.get("asked_at"))
            common = ("request_id", "asked_at") if self.dated else ("request_id",)
            return self.build(Payload(value, target, request_id, asked_at, common))
        except InvalidError as error:
            raise InvalidCommandError(error.faults, request_id) from None


@dataclass(frozen=True, slots=True)
class Payload:
    """A command's decoded payload.

    Attributes:
        value: decoded JSON, None for an empty payload.
        target: the addressee, as for `CommandDefinition.parse`.
        request_id: its request id.
        asked_at: its time.
        common_keys: the keys that all forms of the payload may contain: `request_id`, and `asked_at` if it is dated.
    """

    value: object
    target: str
    request_id: str | None
    asked_at: datetime | None
    common_keys: tuple[str, ...]

    def mapping(self, *keys: str) -> Mapping[str, Any]:
        """Return the payload, an object of no other keys than these and the common ones. Raises InvalidError."""
        if not isinstance(self.value, Mapping):
            expected = "an object" if keys else 'PRESS, {"request_id": "…"} or nothing'
            raise InvalidError.at("", f"must be {expected}, not {type_name(self.value)}")
        allowed = (*keys, *self.common_keys)
        faults = [Fault(shorten(str(key), 40), unknown_key(key, allowed)) for key in self.value if key not in allowed]
        if faults:
            raise InvalidError(faults)
        return self.value

    def require_confirmation(self, value: Mapping[str, Any], action: str) -> None:
        """Raise InvalidError if `confirm` does not repeat the target's name."""
        if value.get("confirm") != self.target:
            raise InvalidError.at("confirm", f'{action} needs "confirm": "{self.target}"')


def _decode(payload: bytes) -> object:
    if not payload:
        return None
    if payload == PRESS:
        raise InvalidCommandError([Fault("", "must be JSON, not PRESS")], None)
    return decode_json(payload)


def decode_json(text: bytes) -> object:
    """Return the value of a JSON text, never None.

    Raises:
        InvalidCommandError: it is not JSON in UTF-8, or it is null.
    """
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InvalidCommandError([Fault("", f"is not JSON in UTF-8 ({reason})")], None) from None
    if value is None:
        raise InvalidCommandError([Fault("", "must not be null")], None)
    return value


def _read_request_id(value: object) -> tuple[str | None, list[Fault]]:
    if not isinstance(value, Mapping) or value.get("request_id") is None:
        return None, []
    request_id = value["request_id"]
    if not isinstance(request_id, str) or len(request_id) > MAXIMUM_REQUEST_ID_LENGTH:
        return None, [Fault("request_id", f"must be text of at most {MAXIMUM_REQUEST_ID_LENGTH} characters")]
    if not request_id.isprintable():
        # It is written to logs as it is: a line break could forge a line.
        return None, [Fault("request_id", "must not contain control characters")]
    return request_id, []


def type_name(value: object) -> str:
    """Return the name of a decoded value's type, for an error message."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"
