"""The frames a simulated terminal sends, well spelled or not."""

import orjson
from aiohttp import WSMsgType

from bridge.protocol.replies import TerminalReply, encode_reply
from bridge.simulator.behaviour import Behaviour, Garbage

HUGE_FRAME_LENGTH = 20 * 2**20
"""Bytes; what nobody could take for a reply."""

_NESTING = 100_000

Frame = tuple[WSMsgType, bytes]


def answer_frames(reply: TerminalReply, behaviour: Behaviour) -> list[Frame]:
    """Return what is sent instead of a plain reply."""
    answer = (WSMsgType.TEXT, _spell(reply, behaviour))
    frames = [] if behaviour.garbage is None else [_garbage_frame(behaviour.garbage, reply, answer)]
    if not behaviour.silent:
        frames.append(answer)
    return frames


def unasked_reply(sn: str, number: int) -> Frame:
    """Return a well-formed reply to a msgid that nobody sent."""
    reply = TerminalReply(msgid=f"unasked-{number}", sn=sn, status=0, message="nobody asked")
    return WSMsgType.TEXT, encode_reply(reply)


def _spell(reply: TerminalReply, behaviour: Behaviour) -> bytes:
    if not behaviour.msg_as_object and not behaviour.status_as_string:
        return encode_reply(reply)
    status = str(reply.status) if behaviour.status_as_string else reply.status
    msg: object = {"status": status, "msg": reply.message}
    if not behaviour.msg_as_object:
        msg = orjson.dumps(msg).decode()
    return orjson.dumps({"msgid": reply.msgid, "sn": reply.sn, "cmd": reply.cmd, "msg": msg})


def _garbage_frame(garbage: Garbage, reply: TerminalReply, answer: Frame) -> Frame:
    match garbage:
        case Garbage.NOT_JSON:
            return WSMsgType.TEXT, b"<status>0</status>"
        case Garbage.BINARY:
            return WSMsgType.BINARY, bytes(range(256))
        case Garbage.NESTED:
            return WSMsgType.TEXT, b"[" * _NESTING
        case Garbage.HUGE:
            return WSMsgType.TEXT, b'"' + b"x" * (HUGE_FRAME_LENGTH - 2) + b'"'
        case Garbage.UNKNOWN_MSGID:
            return unasked_reply(reply.sn or "", 0)
        case Garbage.DOUBLED:
            return answer
