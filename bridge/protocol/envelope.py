"""The JSON object around every request and every reply."""

import orjson

from bridge.protocol.errors import LocalProtocolError, RemoteProtocolError

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
