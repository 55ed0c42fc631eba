"""`application/x-www-form-urlencoded`, written so that strict and naive decoders read the same."""

import re
from collections.abc import Collection, Iterable
from urllib.parse import quote, unquote

from bridge.protocol.errors import LocalProtocolError, RemoteProtocolError

_ESCAPED = re.compile(r"(?:[A-Za-z0-9_.~-]++|%[0-9A-Fa-f]{2})*+")


def escape(text: str) -> str:
    """Percent-encode a value. A space becomes `%20`, because some decoders do not read `+` as a space.

    Raises:
        LocalProtocolError: the text has a lone surrogate.
    """
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise LocalProtocolError("a text that is not Unicode (a lone surrogate)") from None


def join_form(fields: Iterable[tuple[str, str]]) -> str:
    """Return a form of names and escaped values."""
    return "&".join([f"{name}={value}" for name, value in fields])


def split_form(text: str, *, required: Collection[str], optional: Collection[str]) -> dict[str, str]:
    """Return the fields of a form, read strictly. The values stay escaped.

    Raises:
        RemoteProtocolError: a part is not `name=value`, a name is unknown or given twice, a required one is missing, or
            a value contains a character that should have been escaped.
    """
    fields: dict[str, str] = {}
    for part in text.split("&"):
        name, equals, value = part.partition("=")
        if not equals or _ESCAPED.fullmatch(value) is None:
            raise RemoteProtocolError("msg is not a strictly percent-encoded form")
        if name not in required and name not in optional:
            raise RemoteProtocolError("msg has an unknown field")
        if name in fields:
            raise RemoteProtocolError(f"msg has {name} twice")
        fields[name] = value
    for name in required:
        if name not in fields:
            raise RemoteProtocolError(f"msg has no {name}")
    return fields


def unescape(value: str) -> str:
    """Return the text of a value that `split_form` returned.

    Raises:
        RemoteProtocolError: the escaped bytes are not UTF-8.
    """
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise RemoteProtocolError("msg holds bytes that are not UTF-8") from None
