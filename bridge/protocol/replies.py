"""Messages from a terminal: replies and keep-alives.

Replies are read liberally, because firmwares differ (docs/protocol.md), and written strictly.
"""

import re
from dataclasses import dataclass

import orjson

from bridge.protocol.encoding import (
    MAXIMUM_MSGID_LENGTH,
    MAXIMUM_SN_LENGTH,
    LocalProtocolError,
    RemoteProtocolError,
    decode_object,
    encode_envelope,
    read_identifier,
)

MAXIMUM_MESSAGE_LENGTH = 500
"""Characters that are kept of a terminal's text, which appears in logs and replies. The vendor's longest example is
`ok`."""

MAXIMUM_CMD_LENGTH = 32
"""Characters that are kept of a reply's `cmd`. The longest command is `removePerson`; in the vendor's replies it is
empty."""

MAXIMUM_STATUS = 2**53 - 1
"""The largest status, positive or negative. Every JSON reader holds whole numbers up to this exactly."""

_NUMERIC = re.compile(r"[+-]?[0-9]{1,16}")


@dataclass(frozen=True, slots=True)
class TerminalReply:
    """A terminal's answer to one request.

    Attributes:
        msgid: the request's msgid.
        sn: the serial number that the terminal gives; None if it gives none.
        status: 0 for success; every other number is a refusal.
        message: the terminal's text, cut to `MAXIMUM_MESSAGE_LENGTH`, with U+FFFD for unprintable characters.
        cmd: empty in the vendor's examples.
    """

    msgid: str
    sn: str | None
    status: int
    message: str
    cmd: str = ""


def decode_reply(frame: str | bytes) -> TerminalReply:
    """Read a reply.

    Accepted are: `msg` as a string of JSON or as an object, `status` as a number or a numeric string, unknown keys, a
    missing `sn` or `cmd`, and a text that is missing or not a string, which is read as empty.

    Raises:
        RemoteProtocolError: the frame is not JSON, or has no usable msgid or status.
    """
    envelope = decode_object(frame, "the frame")
    msgid = read_identifier(envelope.get("msgid"), "msgid", MAXIMUM_MSGID_LENGTH)
    try:
        sn = envelope.get("sn")
        answer = _read_answer(envelope.get("msg"))
        return TerminalReply(
            msgid=msgid,
            sn=None if sn is None else read_identifier(sn, "sn", MAXIMUM_SN_LENGTH),
            status=_read_status(answer.get("status")),
            message=_read_text(answer.get("msg"), MAXIMUM_MESSAGE_LENGTH),
            cmd=_read_text(envelope.get("cmd"), MAXIMUM_CMD_LENGTH),
        )
    except RemoteProtocolError as error:
        raise RemoteProtocolError(str(error), msgid=msgid) from None


def encode_reply(reply: TerminalReply) -> bytes:
    """Return the frame of a reply as in the vendor's document, with `msg` as a string of JSON.

    Raises:
        LocalProtocolError: the reply has no SN, a status out of range, or a text with a lone surrogate.
    """
    if reply.sn is None:
        raise LocalProtocolError("a reply names its terminal")
    if abs(reply.status) > MAXIMUM_STATUS:
        raise LocalProtocolError("a status that not every reader of JSON can hold")
    try:
        msg = orjson.dumps({"status": reply.status, "msg": reply.message}).decode()
    except orjson.JSONEncodeError:
        raise LocalProtocolError("a text that is not Unicode (a lone surrogate)") from None
    return encode_envelope(msgid=reply.msgid, sn=reply.sn, cmd=reply.cmd, msg=msg)


def is_keep_alive(frame: str | bytes) -> bool:
    """Return whether a text frame is a keep-alive, not a message: some firmwares send empty frames or `ping`."""
    return frame.strip().lower() in ("", "ping", b"", b"ping")


def _read_answer(value: object) -> dict[str, object]:
    if isinstance(value, str):
        return decode_object(value, "msg")
    if isinstance(value, dict):
        return value
    raise RemoteProtocolError("msg is neither a string nor an object")


def _read_status(value: object) -> int:
    if isinstance(value, str) and _NUMERIC.fullmatch(value.strip()):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # In Python `True` is an int, but in JSON true is not a number.
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAXIMUM_STATUS:
        raise RemoteProtocolError("status is not a whole number in the allowed range")
    return value


def _read_text(value: object, maximum: int) -> str:
    if not isinstance(value, str):
        return ""
    text = value[:maximum]
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
