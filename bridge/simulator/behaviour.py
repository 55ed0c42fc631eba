"""Behaviour of a simulated terminal, good or bad, and the frames that it makes of its replies."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

import orjson
from aiohttp import WSMsgType

from bridge.protocol.replies import TerminalReply, encode_reply

HUGE_FRAME_BYTES = 20 * 2**20
"""Far more than the bridge accepts."""

_NESTED_BRACKETS = 100_000

Frame = tuple[WSMsgType, bytes]


class KeepAlive(Enum):
    """The sign of life that a terminal sends at intervals."""

    PING = auto()
    """An empty WebSocket ping, as in the vendor's document."""
    TEXT = auto()
    """A text frame `ping`, as some firmware sends."""
    NONE = auto()
    """Nothing."""


class Garbage(Enum):
    """A frame that a terminal sends before each reply and that is no reply."""

    NOT_JSON = auto()
    """A text frame that is not JSON."""
    BINARY = auto()
    """A binary frame."""
    NESTED = auto()
    """JSON that is nested more deeply than parsers accept."""
    HUGE = auto()
    """A text frame of `HUGE_FRAME_BYTES`."""
    UNKNOWN_MSGID = auto()
    """A well-formed reply with an unknown msgid."""
    DOUBLED = auto()
    """The reply itself, so that it arrives twice."""


class Drop(Enum):
    """How a terminal ends the connection instead of carrying out a request."""

    CLOSE = auto()
    """With a close frame."""
    ABORT = auto()
    """With a TCP reset and without a close frame."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reply to every request instead of carrying it out."""

    status: int
    text: str = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """The behaviour of one terminal; the default is that of the vendor's document. The attributes can be combined.

    Attributes:
        answer_delay: seconds between carrying out a request and the reply.
        silent: requests are carried out, but no reply is sent.
        refusal: requests are not carried out; this is the reply.
        drop: requests are not carried out; the connection ends in this way.
        only_for: the persons whose requests `refusal` and `drop` apply to, with None for the removal of all persons;
            None for every request.
        garbage: sent before each reply, also before one that `silent` withholds.
        flood: unrequested frames per second, each a reply with an unknown msgid.
        pass_seconds: interval of messages that report a pass, which the vendor's document does not know; 0 for none.
        keep_alive: the sign of life.
        answers_pings: whether the terminal answers the bridge's pings.
        msg_as_object: whether the reply's `msg` is an object instead of a string that holds one.
        status_as_string: whether the reply's `status` is a string.
    """

    answer_delay: float = 0.0
    silent: bool = False
    refusal: Refusal | None = None
    drop: Drop | None = None
    only_for: frozenset[str | None] | None = None
    garbage: Garbage | None = None
    flood: float = 0.0
    pass_seconds: float = 0.0
    keep_alive: KeepAlive = KeepAlive.PING
    answers_pings: bool = True
    msg_as_object: bool = False
    status_as_string: bool = False


def reply_frames(reply: TerminalReply, behaviour: Behaviour) -> list[Frame]:
    """Return the frames that are sent for a reply."""
    frame = (WSMsgType.TEXT, _encode(reply, behaviour))
    frames = [] if behaviour.garbage is None else [_garbage_frame(behaviour.garbage, reply, frame)]
    if not behaviour.silent:
        frames.append(frame)
    return frames


def unrequested_reply(sn: str, number: int) -> Frame:
    """Return a well-formed reply with an unknown msgid."""
    reply = TerminalReply(msgid=f"unrequested-{number}", sn=sn, status=0, message="not requested")
    return WSMsgType.TEXT, encode_reply(reply)


def pass_message(sn: str, number: int, persons: Sequence[str]) -> Frame:
    """Return a message that reports a pass, as undocumented firmware may send it.

    Args:
        sn: the terminal.
        number: counts the messages.
        persons: the ids of the persons that the terminal holds; they pass in turn.
    """
    person_id = persons[number % len(persons)] if persons else None
    message = {"sn": sn, "cmd": "pass", "msg": {"number": number, "id": person_id}}
    return WSMsgType.TEXT, orjson.dumps(message)


def _encode(reply: TerminalReply, behaviour: Behaviour) -> bytes:
    if not behaviour.msg_as_object and not behaviour.status_as_string:
        return encode_reply(reply)
    status = str(reply.status) if behaviour.status_as_string else reply.status
    msg: object = {"status": status, "msg": reply.message}
    if not behaviour.msg_as_object:
        msg = orjson.dumps(msg).decode()
    return orjson.dumps({"msgid": reply.msgid, "sn": reply.sn, "cmd": reply.cmd, "msg": msg})


def _garbage_frame(garbage: Garbage, reply: TerminalReply, frame: Frame) -> Frame:
    match garbage:
        case Garbage.NOT_JSON:
            return WSMsgType.TEXT, b"<status>0</status>"
        case Garbage.BINARY:
            return WSMsgType.BINARY, bytes(range(256))
        case Garbage.NESTED:
            return WSMsgType.TEXT, b"[" * _NESTED_BRACKETS
        case Garbage.HUGE:
            return WSMsgType.TEXT, b'"' + b"x" * (HUGE_FRAME_BYTES - 2) + b'"'
        case Garbage.UNKNOWN_MSGID:
            return unrequested_reply(reply.sn or "", 0)
        case Garbage.DOUBLED:
            return frame
