"""Persons in multipart bodies, as a form or `curl -F` sends them, with the photo as a file."""

import asyncio
from base64 import b64encode
from typing import Any

from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import HttpProcessingError

from bridge.core.command_definition import InvalidCommandError, decode_json, type_name
from bridge.model.faults import Fault
from bridge.model.json_schema import JsonSchema, reference
from bridge.web.api.bodies import malformed, too_large, too_slow
from bridge.web.errors import RequestError

MULTIPART = "multipart/form-data"

_MAX_PARTS = 32
"""More than a person has fields."""

_PHOTO, _PERSON = "photo", "person"

MULTIPART_PERSON_SCHEMA: JsonSchema = {
    "type": "object",
    "properties": {
        _PHOTO: {"type": "string", "contentMediaType": "image/jpeg", "description": "the picture's bytes"},
        _PERSON: {"description": "other fields of the person, as JSON", "allOf": [reference("Person")]},
    },
    "additionalProperties": {"type": "string", "description": "another field of the person whose value is text"},
}
"""The schema of the parts, as far as JSON Schema can express it."""


async def read_multipart_person(
    request: web.Request, max_photo_bytes: int, max_field_bytes: int, seconds: float
) -> dict[str, Any]:
    """Return the person in a request's parts, in the form of JSON.

    Args:
        request: with a body of multipart/form-data.
        max_photo_bytes: of the photo.
        max_field_bytes: of all other parts together.
        seconds: for sending the body.

    Raises:
        RequestError: the body is too large, too slow or malformed.
        InvalidCommandError: the parts are no fields of a person.
    """
    try:
        async with asyncio.timeout(seconds):
            return await _read_parts(request, max_photo_bytes, max_field_bytes)
    except TimeoutError:
        raise too_slow(seconds) from None
    except (web.RequestPayloadError, HttpProcessingError, ValueError, RuntimeError, AssertionError):
        # aiohttp's reader raises the last four for parts whose headers, boundaries or encodings are wrong.
        raise malformed() from None


async def _read_parts(request: web.Request, max_photo_bytes: int, max_field_bytes: int) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    left = max_field_bytes
    count = 0
    parts = await request.multipart()
    while (part := await parts.next()) is not None:
        count += 1
        if count > _MAX_PARTS or not isinstance(part, BodyPartReader):
            raise malformed()
        name = part.name
        if name is None:
            raise _invalid("", "a part of the body has no name")
        if name == _PHOTO:
            photo = await _read(part, max_photo_bytes)
            if photo is None:
                limit = f"{max_photo_bytes / 1e6:.1f} MB"
                raise RequestError(
                    413, f"more than {limit}, at most {limit} are accepted (photos.max_bytes)", path=_PHOTO
                )
            # A form whose file was not chosen sends an empty part.
            new: dict[str, Any] = {_PHOTO: b64encode(photo).decode()} if photo or part.filename != "" else {}
        else:
            content = await _read(part, left)
            if content is None:
                raise too_large(max_field_bytes)
            left -= len(content)
            new = _fields(name, content)
        for key, value in new.items():
            if key in fields:
                raise _invalid(key, "is given twice")
            fields[key] = value
    return fields


def _fields(name: str, content: bytes) -> dict[str, Any]:
    """Return the fields that a part holds. Raises InvalidCommandError."""
    if name == _PERSON:
        value = decode_json(content)
        if not isinstance(value, dict):
            raise _invalid(_PERSON, f"must be an object, not {type_name(value)}")
        return value
    try:
        return {name: content.decode()}
    except UnicodeDecodeError:
        raise _invalid(name, "is not text in UTF-8") from None


async def _read(part: BodyPartReader, max_bytes: int) -> bytes | None:
    """Return the content of a part; None if it is longer than `max_bytes`."""
    content = bytearray()
    while chunk := await part.read_chunk():
        content += chunk
        if len(content) > max_bytes:
            return None
    return bytes(content)


def _invalid(path: str, message: str) -> InvalidCommandError:
    return InvalidCommandError([Fault(path, message)], None)
