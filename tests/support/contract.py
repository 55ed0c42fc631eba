"""Checks messages on a broker against the published schemas: topic, payload, QoS and retain."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

import orjson
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from bridge.core.command_definition import CommandDefinition
from bridge.core.commands import SET_PERSONS
from bridge.model.reply import Outcome
from bridge.mqtt.topics import PUBLISHED_TOPICS, Address, PublishedTopic, Topics
from tools.catalogue import catalogue


def _pattern(_validator: Validator, pattern: str, instance: object, _schema: object) -> Iterator[ValidationError]:
    """Match as ECMA 262, JSON Schema's dialect, does: Python's `$` also matches before a final line break."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=ValueError)
def _is_time(instance: object) -> bool:
    return not isinstance(instance, str) or datetime.fromisoformat(instance).tzinfo is not None


_Validator: Any = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]  # it has none


@cache
def validator(title: str, *, closed: bool = False) -> Validator:
    """Return the validator of a schema; `closed` also refuses undeclared keys, which consumers should ignore."""
    return validator_of(catalogue().document(title), closed=closed)


def validator_of(schema: Any, *, closed: bool = False) -> Validator:
    """Return the validator of a schema that contains all it refers to; `closed` as in `validator`."""
    made: Validator = _Validator(_closed(schema) if closed else schema, format_checker=_FORMATS)
    return made


def accepts(definition: CommandDefinition, payload: bytes) -> bool:
    """Return whether the schemas accept a command; rules that only descriptions state are not checked."""
    if payload in definition.plain:
        return True
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    return validator(definition.payload_schema["title"]).is_valid(value)


class ContractWatch:
    """Checks what a client publishes and receives below a base topic against the schemas."""

    def __init__(self, base: str = "facebridge") -> None:
        self.faults: list[str] = []
        self._topics = Topics(base)
        self._trials = f"{base}/doctor/"
        names = re.escape("NAME"), "[A-Za-z0-9_-]{1,64}"
        self._publications = [
            (re.compile(re.escape(self._topics.of(publication, "NAME")).replace(*names)), publication)
            for publication in PUBLISHED_TOPICS
        ]
        self._commands: dict[str, tuple[Address, bytes] | None] = {}

    def published(self, topic: str, payload: bytes) -> None:
        """Note a command, to find out by its request id whether the bridge accepts what the schemas refuse."""
        address = self._topics.parse(topic)
        request_id = _request_id(payload)
        if address is not None and request_id is not None:
            # If two commands have the same id, replies cannot be assigned.
            self._commands[request_id] = None if request_id in self._commands else (address, payload)

    def heard(self, topic: str, payload: bytes, *, qos: int, retain: bool | None = None) -> None:
        """Check a message; `qos` and `retain` are those that it was published with, `retain` None if not known."""
        if not self._topics.holds(topic) or self._topics.parse(topic) is not None or topic.startswith(self._trials):
            return
        publication = next((one for pattern, one in self._publications if pattern.fullmatch(topic)), None)
        if publication is None:
            self.faults.append(f"{topic} is a topic that the contract does not know")
        elif qos != publication.qos or (retain is not None and retain != publication.retain):
            self.faults.append(f"{topic} was published with QoS {qos}, retain {retain}")
        elif payload or not publication.retain:
            fault = _fault_of_payload(publication, topic, payload)
            if fault is not None:
                self.faults.append(fault)
            elif publication.level == "reply":
                self._check_reply(orjson.loads(payload))

    def check(self) -> None:
        """Fail if a message was invalid."""
        assert not self.faults, "\n".join(self.faults)

    def _check_reply(self, reply: Mapping[str, Any]) -> None:
        command = self._commands.get(reply["request_id"])
        if command is None or reply.get("outcome") in (None, Outcome.INVALID, Outcome.UNAVAILABLE):
            return
        address, payload = command
        if reply["command"] != address.definition.name:
            return
        if address.definition is SET_PERSONS:
            is_right = _accepts_person(orjson.loads(payload), reply["person_id"])
        else:
            is_right = accepts(address.definition, payload)
        if not is_right:
            self.faults.append(f"{payload[:1000]!r} breaks the contract, but the bridge answered {reply}")


def _request_id(payload: bytes) -> str | None:
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return None
    request_id = value.get("request_id") if isinstance(value, Mapping) else None
    return request_id if isinstance(request_id, str) else None


def _accepts_person(command: Mapping[str, Any], person_id: str) -> bool:
    """Return whether the schemas accept a person with this id; each person is checked separately."""
    persons = command.get("persons", [command])
    same = [one for one in persons if isinstance(one, Mapping) and one.get("id") == person_id]
    kind = validator("Person" if "persons" in command else "SinglePerson")
    return any(kind.is_valid(one) for one in same)


def _fault_of_payload(publication: PublishedTopic, topic: str, payload: bytes) -> str | None:
    value: object
    try:
        value = orjson.loads(payload) if publication.is_json else payload.decode()
    except ValueError as error:
        return f"{topic}: {error}"
    faults = []
    for schema in publication.payloads:
        fault = best_match(validator(schema["title"], closed=True).iter_errors(value))
        if fault is None:
            return None
        faults.append(f"{schema['title']}: {fault.json_path}: {fault.message}")
    return f"{topic} breaks the contract: {'; '.join(faults)}; payload {payload[:1000]!r}"


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {keyword: _closed(part) for keyword, part in schema.items()}
    if "properties" in closed and "type" in closed:
        closed.setdefault("additionalProperties", False)
    return closed
