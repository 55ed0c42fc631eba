"""The encoding that requests and replies share: errors, form encoding, the JSON envelope, and photos.

`LocalProtocolError` is a bug in the bridge, `RemoteProtocolError` a fault of the terminal (docs/protocol.md).
"""

import binascii
import re
from base64 import b64encode
from collections.abc import Collection, Iterable
from typing import NewType
from urllib.parse import quote, unquote

import orjson


class ProtocolError(Exception):
    """One side has broken the protocol."""


class LocalProtocolError(ProtocolError):
    """The bridge was about to send what must never be sent: a defect of the caller, which should have checked it."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what cannot be read. Decoders raise no other exception.

    The message is a short hint. It never contains a part of the frame, so it may be logged.

    Attributes:
        msgid: the frame's msgid, if it could be read: printable, and of allowed length.
    """

    def __init__(self, message: str, *, msgid: str | None = None) -> None:
        super().__init__(message)
        self.msgid = msgid


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


MAXIMUM_MSGID_LENGTH = 128
"""Characters. The vendor's examples and the bridge itself use UUIDs, which have 36."""

MAXIMUM_SN_LENGTH = 64
"""Characters, as in the path with which a terminal connects (docs/protocol.md)."""


def encode_envelope(*, msgid: str, sn: str, cmd: str, msg: str) -> bytes:
    """Return a frame with exactly the four keys, all strings.

    Raises:
        LocalProtocolError: the msgid or the SN is empty, too long or not printable, or a text has a lone surrogate.
    """
    if not is_identifier(msgid, MAXIMUM_MSGID_LENGTH):
        raise LocalProtocolError(f"a msgid has 1 to {MAXIMUM_MSGID_LENGTH} printable characters")
    if not is_identifier(sn, MAXIMUM_SN_LENGTH):
        raise LocalProtocolError(f"an SN has 1 to {MAXIMUM_SN_LENGTH} printable characters")
    try:
        return orjson.dumps({"msgid": msgid, "sn": sn, "cmd": cmd, "msg": msg})
    except orjson.JSONEncodeError:
        raise LocalProtocolError("a text that is not Unicode (a lone surrogate)") from None


def decode_object(text: str | bytes, what: str) -> dict[str, object]:
    """Read a JSON object.

    orjson limits the depth and refuses NaN, Infinity, numbers beyond a double, lone surrogates and bytes that are not
    UTF-8. Its error contains the whole text, so it is not chained.

    Raises:
        RemoteProtocolError: the text is not a JSON object; `what` names the text in the message.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise RemoteProtocolError(f"{what} is not JSON") from None
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"{what} is not a JSON object")
    return value


def read_identifier(value: object, name: str, maximum: int) -> str:
    """Return a value that is a msgid or an SN.

    Raises:
        RemoteProtocolError: it is neither.
    """
    if not isinstance(value, str) or not is_identifier(value, maximum):
        raise RemoteProtocolError(f"{name} is not a string of 1 to {maximum} printable characters")
    return value


def is_identifier(text: str, maximum: int) -> bool:
    """Return whether a text can be a msgid or an SN."""
    return 0 < len(text) <= maximum and text.isprintable()


EscapedPhoto = NewType("EscapedPhoto", str)
"""Base64 with `+`, `/` and `=` percent-encoded, as `encode_photo` and `escape_photo` return it.

It is worth caching, because the same person is sent to many terminals.
"""


def escape_photo(base64_text: str) -> EscapedPhoto:
    """Escape a photo for a form.

    Only three characters of base64 need escaping. Three `str.replace` take a fraction of a millisecond for 130 KB;
    `urllib.parse.quote` takes five milliseconds and would delay the event loop.

    Args:
        base64_text: standard alphabet, padded, no white space, not a data URI.

    Raises:
        LocalProtocolError: the text is empty or not such base64.
    """
    if not base64_text:
        raise LocalProtocolError("an empty photo")
    try:
        binascii.a2b_base64(base64_text, strict_mode=True)
    except ValueError:
        raise LocalProtocolError("a photo that is not strict base64") from None
    return _escape_base64(base64_text.encode())


def encode_photo(picture: bytes) -> EscapedPhoto:
    """Encode a picture for a form, as `escape_photo` does with its base64.

    Raises:
        LocalProtocolError: the picture is empty.
    """
    if not picture:
        raise LocalProtocolError("an empty photo")
    return _escape_base64(b64encode(picture))


def _escape_base64(text: bytes) -> EscapedPhoto:
    return EscapedPhoto(text.replace(b"+", b"%2B").replace(b"/", b"%2F").replace(b"=", b"%3D").decode())


def unescape_photo(photo: EscapedPhoto) -> bytes:
    """Return the picture's bytes, as a terminal reads them from a form.

    Raises:
        RemoteProtocolError: the photo is not base64.
    """
    text: str = photo
    for escape, character in (("%2B", "+"), ("%2F", "/"), ("%3D", "=")):
        text = text.replace(escape, character).replace(escape.lower(), character)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise RemoteProtocolError("the photo is not base64") from None


def is_escaped(photo: str) -> bool:
    """Return whether a photo contains nothing that ends a field of a form. Takes microseconds."""
    return photo.isascii() and not any(character in photo for character in "+/=& ")
