"""`application/x-www-form-urlencoded`, in the one spelling that strict and naive decoders read the same."""

import re
from collections.abc import Collection, Iterable
from urllib.parse import quote, unquote

from bridge.protocol.errors import LocalProtocolError, RemoteProtocolError

_ESCAPED = re.compile(r"(?:[A-Za-z0-9_.~-]++|%[0-9A-Fa-f]{2})*+")


def escape(text: str) -> str:
    """Percent-encode a value, a space as `%20`: some decoders read `+` as itself.

    Raises:
        LocalProtocolError: the text is not Unicode.
    """
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise LocalProtocolError("a text that is not Unicode (a lone surrogate)") from None


def join_form(fields: Iterable[tuple[str, str]]) -> str:
    """Write a form of names and values that are escaped already."""
    return "&".join([f"{name}={value}" for name, value in fields])


def split_form(text: str, *, required: Collection[str], optional: Collection[str]) -> dict[str, str]:
    """Take a form apart, strictly; the values stay escaped.

    Raises:
        RemoteProtocolError: a part is no `name=value`, a name is unknown or comes twice, a required one is
            missing, or a value holds anything that should have been escaped.
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
    """Read a value that `split_form` returned.

    Raises:
        RemoteProtocolError: the escaped bytes are not UTF-8.
    """
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise RemoteProtocolError("msg holds bytes that are not UTF-8") from None
