"""What a command is: how it is named, addressed and read. The commands themselves are in `commands.py`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from bridge.model.commands import Command
from bridge.model.faults import Fault, InvalidError, shorten, unknown_key
from bridge.model.json_schema import JsonSchema
from bridge.model.names import MAXIMUM_REQUEST_ID_LENGTH

PRESS = b"PRESS"
"""What Home Assistant's buttons publish."""

NOTHING = b""
"""An empty payload."""


class InvalidCommandError(InvalidError):
    """A payload that is no valid command.

    Attributes:
        request_id: what it carried, where that could be read.
    """

    def __init__(self, faults: list[Fault] | tuple[Fault, ...], request_id: str | None) -> None:
        super().__init__(faults)
        self.request_id = request_id


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandDefinition:
    """One command.

    Attributes:
        name: the reply's `command`: the terminal's own `cmd` where there is one.
        description: what it does, for people.
        topic: what follows the target in its MQTT topic.
        urgent: it must be carried out now or not at all; others must not get lost and keep their order.
        for_terminal: it can be asked of one terminal.
        for_group: it can be asked of a group.
        for_bridge: it can be asked of the bridge.
        payload_schema: what its JSON may be; what a schema cannot tell stands in its descriptions.
        plain: the payloads it takes that are not JSON, `PRESS` and nothing; each is the same as an empty object.
        build: makes the command of what the payload held, or raises InvalidError.
    """

    name: str
    description: str
    topic: str
    payload_schema: JsonSchema
    plain: tuple[bytes, ...] = ()
    build: Callable[["Payload"], Command]
    urgent: bool = False
    for_terminal: bool = False
    for_group: bool = False
    for_bridge: bool = False

    def parse(self, payload: bytes, target: str) -> Command:
        """Read a payload.

        Args:
            payload: as it came in: JSON, `PRESS` or nothing, as the command allows.
            target: the terminal's SN or the group's name, which a `confirm` must repeat; empty for the bridge.

        Raises:
            InvalidCommandError: with all that is wrong.
        """
        return self.build_from({} if payload in self.plain else _decode(payload), target)

    def build_from(self, value: object, target: str) -> Command:
        """Make the command of decoded JSON, None standing for an empty payload; errors as for `parse`."""
        if value is None and NOTHING in self.plain:
            value = {}
        request_id, faults = _take_request_id(value)
        if faults:
            raise InvalidCommandError(faults, None)
        try:
            return self.build(Payload(value, target, request_id))
        except InvalidError as error:
            raise InvalidCommandError(error.faults, request_id) from None


@dataclass(frozen=True, slots=True)
class Payload:
    """A command's decoded payload.

    Attributes:
        value: decoded JSON, None for nothing.
        target: whom it was sent to, as for `CommandDefinition.parse`.
        request_id: what it carried.
    """

    value: object
    target: str
    request_id: str | None

    def mapping(self, *keys: str) -> Mapping[str, Any]:
        """Return the payload as an object of no other keys than these and `request_id`, or raise InvalidError."""
        if not isinstance(self.value, Mapping):
            expected = "an object" if keys else 'PRESS, {"request_id": "…"} or nothing'
            raise InvalidError.at("", f"must be {expected}, not {kind_of(self.value)}")
        allowed = (*keys, "request_id")
        faults = [Fault(shorten(str(key), 40), unknown_key(key, allowed)) for key in self.value if key not in allowed]
        if faults:
            raise InvalidError(faults)
        return self.value

    def confirmed(self, value: Mapping[str, Any], what: str) -> None:
        """Make sure that `confirm` repeats the target's name, or raise InvalidError."""
        if value.get("confirm") != self.target:
            raise InvalidError.at("confirm", f'{what} needs "confirm": "{self.target}"')


def _decode(payload: bytes) -> object:
    if not payload:
        return None
    if payload == PRESS:
        raise InvalidCommandError([Fault("", "must be JSON, not PRESS")], None)
    return decode_json(payload, "payload")


def decode_json(text: bytes, what: str) -> object:
    """Return the value of some JSON, never None.

    Args:
        text: the JSON.
        what: what it is to whoever sent it, for an error message.

    Raises:
        InvalidCommandError: it is no JSON in UTF-8, or null.
    """
    try:
        value: object = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise InvalidCommandError([Fault("", f"is not JSON in UTF-8 ({reason})")], None) from None
    if value is None:
        raise InvalidCommandError([Fault("", f"must not be null; leave the {what} empty instead")], None)
    return value


def _take_request_id(value: object) -> tuple[str | None, list[Fault]]:
    if not isinstance(value, Mapping) or value.get("request_id") is None:
        return None, []
    request_id = value["request_id"]
    if not isinstance(request_id, str) or len(request_id) > MAXIMUM_REQUEST_ID_LENGTH:
        return None, [Fault("request_id", f"must be text of at most {MAXIMUM_REQUEST_ID_LENGTH} characters")]
    return request_id, []


def kind_of(value: object) -> str:
    """Return what a decoded value is, for an error message."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"
