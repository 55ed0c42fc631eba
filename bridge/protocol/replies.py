"""What a terminal sends: replies and signs of life.

Terminals are read liberally (PROTOCOL, notes on the reply) and written strictly.
"""

import re
from dataclasses import dataclass

import orjson

from bridge.protocol.envelope import (
    MAXIMUM_MSGID_LENGTH,
    MAXIMUM_SN_LENGTH,
    decode_object,
    encode_envelope,
    read_identifier,
)
from bridge.protocol.errors import LocalProtocolError, RemoteProtocolError

MAXIMUM_MESSAGE_LENGTH = 500
"""Characters kept of a terminal's text; the document's longest is `ok`, and it goes into logs and replies."""

MAXIMUM_CMD_LENGTH = 32
"""Characters kept of a reply's `cmd`; the document's longest is `removePerson`, in replies it is empty."""

MAXIMUM_STATUS = 2**53 - 1
"""The largest status either way; every reader of JSON holds whole numbers up to here exactly."""

_NUMERIC = re.compile(r"[+-]?[0-9]{1,16}")


@dataclass(frozen=True, slots=True)
class TerminalReply:
    """A terminal's answer to one request.

    Attributes:
        msgid: that of the request.
        sn: the terminal's own word on who it is; None where it says nothing.
        status: 0 for success, anything else is a refusal.
        message: its text, cut to `MAXIMUM_MESSAGE_LENGTH`, with U+FFFD for what cannot be printed.
        cmd: empty in the document.
    """

    msgid: str
    sn: str | None
    status: int
    message: str
    cmd: str = ""


def decode_reply(frame: str | bytes) -> TerminalReply:
    """Read a reply.

    Taken as they come: `msg` as a string of JSON or as an object, `status` as a number or a numeric string,
    unknown keys, a missing `sn` or `cmd`, a text that is missing or no string (read as empty).

    Raises:
        RemoteProtocolError: it is no reply: not JSON, or without a usable msgid or status.
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
    """Write a reply as the document has it, `msg` a string that holds JSON.

    Raises:
        LocalProtocolError: without an SN, with a status out of bounds, or with a text that is not Unicode.
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


def is_sign_of_life(frame: str | bytes) -> bool:
    """Tell whether a text frame is no message but a keep-alive of some firmware: empty, or just `ping`."""
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
    # JSON's true is a kind of int in Python, but no number on the wire.
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) > MAXIMUM_STATUS:
        raise RemoteProtocolError("status is not a whole number of sane size")
    return value


def _read_text(value: object, maximum: int) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(character if character.isprintable() else "\ufffd" for character in value[:maximum])
