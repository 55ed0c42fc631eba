"""The encoded payloads of terminals' devices, made from a template."""

import re
from dataclasses import dataclass
from uuid import uuid4

import orjson

from bridge.model.terminal import Terminal, TerminalOrigin
from bridge.mqtt.discovery.devices import Installation, terminal_device


@dataclass(frozen=True, slots=True)
class TerminalPayload:
    """A payload of some 4 KB that is joined when it is published; kept, it takes a twentieth of that.

    Attributes:
        parts: the JSON that all terminals share, and between its parts the numbers of the terminal's values.
        values: SN, title, start of the entity ids and area as JSON without quotation marks.
    """

    parts: tuple[bytes | int, ...]
    values: tuple[bytes, ...]

    def __call__(self) -> bytes:
        """Return the payload."""
        values = self.values
        return b"".join([values[part] if isinstance(part, int) else part for part in self.parts])


class TerminalPayloads:
    """Makes the payloads of an installation's terminals, each in a twentieth of the time of `terminal_device`."""

    def __init__(self, installation: Installation) -> None:
        self._without_area = _template(installation, has_area=False)
        self._with_area = _template(installation, has_area=True)

    def payload(self, terminal: Terminal, entity_name: str) -> TerminalPayload:
        """Return what `terminal_device` returns, as JSON."""
        values = [_text(terminal.sn), _text(terminal.title), _text(entity_name)]
        if terminal.area is None:
            return TerminalPayload(self._without_area, tuple(values))
        return TerminalPayload(self._with_area, (*values, _text(terminal.area)))


def _text(value: str) -> bytes:
    return orjson.dumps(value)[1:-1]


def _template(installation: Installation, *, has_area: bool) -> tuple[bytes | int, ...]:
    """Encode the device of a terminal with unique values, and cut the JSON at these values."""
    sn, title, entity_name, area = marks = [uuid4().hex for _ in range(4)]
    terminal = Terminal(sn=sn, origin=TerminalOrigin.CONFIGURED, name=title, area=area if has_area else None)
    encoded = orjson.dumps(terminal_device(installation, terminal, entity_name))
    numbers = {mark.encode(): number for number, mark in enumerate(marks)}
    return tuple(numbers.get(part, part) for part in re.split(b"(%b)" % b"|".join(numbers), encoded))
