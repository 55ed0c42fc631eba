"""What the routes of the API have in common: checks of names, parameters of the query, and responses."""

from collections.abc import Mapping
from urllib.parse import quote

from aiohttp import web

from bridge.model.faults import FAULT_SCHEMA, InvalidError
from bridge.model.json_schema import JsonSchema, output_schema, text
from bridge.model.names import is_group_name, is_person_id, is_serial_number
from bridge.model.reply import GROUP_SUMMARY_SCHEMA, REPLY_SCHEMA, Outcome
from bridge.web.errors import RequestError
from bridge.web.routes import QueryParameter, ResponseContent

_NAME_RULES = {
    "sn": (is_serial_number, "an SN has 1 to 64 letters, digits, _ and -"),
    "name": (is_group_name, "a group's name has 1 to 64 letters, digits, _ and -"),
    "id": (is_person_id, "an id has 1 to 64 letters, digits and _ . @ -"),
}
"""For each variable part of a path, whether a text can be one, and the message if not."""

_MAX_SEARCH_LENGTH = 64
"""Characters of a searched text: more than any name has that people type."""

REQUEST_FAILED_SCHEMA: JsonSchema = output_schema(
    {
        "outcome": {
            "enum": [Outcome.INVALID.value, Outcome.UNAVAILABLE.value],
            "description": "`invalid`: mend the request; `unavailable`: try again",
        },
        "errors": {"type": "array", "items": FAULT_SCHEMA, "minItems": 1, "description": "all faults"},
    },
    title="RequestFailed",
    description="A request that failed before there was a command to reply to.",
    examples=[{"outcome": "invalid", "errors": [{"path": "limit", "message": "must be a number from 1 to 1000"}]}],
)
"""The schema of `RequestError.response`."""


def person_id_in_path(request: web.Request) -> str:
    """Return the id of the person in a request's path, which can be malformed.

    A `~` before the id does not count: clients resolve `.` and `..` as folders, also if they are percent-encoded, so
    these ids are written `~.` and `~..` (`path_of_person`).
    """
    return request.match_info["id"].removeprefix("~")


def path_of_person(person_id: str) -> str:
    """Return an id as one segment of a path; `person_id_in_path` reads it."""
    return f"~{person_id}" if person_id in (".", "..") else quote(person_id, safe="@")


def name_in_path(request: web.Request, part: str) -> str:
    """Return a variable part of a request's path. Raises RequestError if it is malformed."""
    name = person_id_in_path(request) if part == "id" else request.match_info[part]
    fault = name_fault(part, name)
    if fault is not None:
        raise RequestError(400, fault, path=part)
    return name


def name_fault(part: str, name: str) -> str | None:
    """Return what is wrong with a variable part of a path; None if nothing is."""
    is_valid, rule = _NAME_RULES[part]
    return None if is_valid(name) else rule


def text_parameter(name: str, description: str, *, longest: int = _MAX_SEARCH_LENGTH) -> QueryParameter:
    """Return a parameter of printable text."""

    def parse(value: str) -> str:
        if not 1 <= len(value) <= longest or not value.isprintable():
            raise InvalidError.at("", f"must be text of 1 to {longest} printable characters")
        return value

    return QueryParameter(name=name, schema=text(description, shortest=1, longest=longest), parse=parse)


def choice_parameter(
    name: str, meanings: Mapping[str, str], description: str, *, default: str | None = None
) -> QueryParameter:
    """Return a parameter that is one of several words.

    Args:
        name: of the parameter.
        meanings: the words with their meanings.
        description: says what the words choose.
        default: the word that is used without the parameter.
    """

    def parse(value: str) -> str:
        if value not in meanings:
            raise InvalidError.at("", f"must be one of {', '.join(meanings)}")
        return value

    listed = "; ".join(f"`{word}`: {meaning}" for word, meaning in meanings.items())
    schema = {"type": "string", "enum": list(meanings), "description": f"{description} ({listed})"}
    if default is not None:
        schema["default"] = default
    return QueryParameter(name=name, schema=schema, parse=parse, default=default)


SEARCH = text_parameter("q", "a part of the id or the name, in upper or lower case")


def failure(description: str) -> ResponseContent:
    """Return the declaration of the response to a request that failed."""
    return ResponseContent(description=description, schema=REQUEST_FAILED_SCHEMA)


def reply(description: str) -> ResponseContent:
    """Return the declaration of a response that is a reply."""
    return ResponseContent(description=description, schema=REPLY_SCHEMA)


def summary(description: str) -> ResponseContent:
    """Return the declaration of a response that is a group's summary."""
    return ResponseContent(description=description, schema=GROUP_SUMMARY_SCHEMA)


UNKNOWN_TERMINAL = failure("the terminal is not known")


def unknown_terminal(sn: str) -> RequestError:
    """Return the error for an unknown terminal."""
    return RequestError(404, f"terminal {sn} is not known: check the SN", path="sn")
