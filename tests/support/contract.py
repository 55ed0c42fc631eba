"""The published contract, held against what goes over a broker: every topic and payload, QoS and retain."""

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

from bridge.contract.catalogue import catalogue
from bridge.hub.commands import CommandDefinition
from bridge.mqtt.topics import PUBLICATIONS, Publication, Topics


def _pattern(_validator: Validator, pattern: str, instance: object, _schema: object) -> Iterator[ValidationError]:
    """Match as ECMA 262, JSON Schema's dialect, does: Python's `$` takes a line break at the end, too."""
    if isinstance(instance, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


_FORMATS = FormatChecker(formats=())


@_FORMATS.checks("date-time", raises=ValueError)
def _is_time(instance: object) -> bool:
    return not isinstance(instance, str) or datetime.fromisoformat(instance).tzinfo is not None


_Validator: Any = extend(Draft202012Validator, {"pattern": _pattern})  # type: ignore[no-untyped-call]  # it has none


@cache
def validator(title: str, *, closed: bool = False) -> Validator:
    """Return the validator of a schema; `closed` refuses the keys that it does not name, as no consumer should."""
    document = catalogue().document(title)
    made: Validator = _Validator(_closed(document) if closed else document, format_checker=_FORMATS)
    return made


def accepts(definition: CommandDefinition, payload: bytes) -> bool:
    """Tell whether the contract lets this be a command; not what only descriptions say of it."""
    if payload in definition.plain:
        return True
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return False
    return validator(definition.payload_schema["title"]).is_valid(value)


def fault_of_publication(topics: Topics, topic: str, payload: bytes) -> str | None:
    """Say how a message that is no command breaks the contract; None where it does not."""
    publication = publication_of(topics, topic)
    if publication is None:
        return f"{topic} is a topic that the contract does not know"
    if not payload:
        return None if publication.retain else f"{topic} is empty, and only what is retained can be cleared"
    return _fault_of_payload(publication, topic, payload)


def publication_of(topics: Topics, topic: str) -> Publication | None:
    """Return what the bridge publishes on a topic below its base."""
    for publication in PUBLICATIONS:
        pattern = re.escape(topics.of(publication, "NAME")).replace("NAME", "[A-Za-z0-9_-]{1,64}")
        if re.fullmatch(pattern, topic):
            return publication
    return None


def _fault_of_payload(publication: Publication, topic: str, payload: bytes) -> str | None:
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
