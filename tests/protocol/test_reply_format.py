"""One table of replies and bytes tests encoder and decoder; then further accepted and refused replies."""

import json

import pytest

from bridge.protocol.encoding import LocalProtocolError, RemoteProtocolError
from bridge.protocol.replies import (
    MAXIMUM_MESSAGE_LENGTH,
    TerminalReply,
    decode_reply,
    encode_reply,
    is_keep_alive,
)

MSGID = "4f4d2a99-2355-46e2-b617-bcb89985d15f"
SN = "FEDCBA9876543210"
OK = TerminalReply(msgid=MSGID, sn=SN, status=0, message="ok")

CASES = [
    (
        OK,
        (
            b'{"msgid":"4f4d2a99-2355-46e2-b617-bcb89985d15f","sn":"FEDCBA9876543210","cmd":"",'
            b'"msg":"{\\"status\\":0,\\"msg\\":\\"ok\\"}"}'
        ),
    ),
    (
        TerminalReply(msgid=MSGID, sn=SN, status=-7, message='人脸 "nicht" gefunden', cmd="setPerson"),
        '{"msgid":"4f4d2a99-2355-46e2-b617-bcb89985d15f","sn":"FEDCBA9876543210","cmd":"setPerson",'
        '"msg":"{\\"status\\":-7,\\"msg\\":\\"人脸 \\\\\\"nicht\\\\\\" gefunden\\"}"}'.encode(),
    ),
]


def frame(msg: object = '{"status": 0, "msg": "ok"}', **changes: object) -> bytes:
    return json.dumps({"msgid": MSGID, "sn": SN, "cmd": "", "msg": msg, **changes}).encode()


@pytest.mark.parametrize(("reply", "written"), CASES)
def test_is_written_exactly_like_this(reply: TerminalReply, written: bytes) -> None:
    assert encode_reply(reply) == written


@pytest.mark.parametrize(("reply", "written"), CASES)
def test_is_read_as_what_was_written(reply: TerminalReply, written: bytes) -> None:
    assert decode_reply(written) == reply
    assert decode_reply(written.decode()) == reply


@pytest.mark.parametrize(
    "liberal",
    [
        pytest.param(
            '{"msgid": "4f4d2a99-2355-46e2-b617-bcb89985d15f", "sn": "FEDCBA9876543210", "cmd": "", '
            '"msg": "{\\"status\\": 0, \\"msg\\": \\"ok\\"}"}',
            id="the document's example",
        ),
        pytest.param(frame({"status": 0, "msg": "ok"}), id="msg is an object"),
        pytest.param(frame('{"status": "0", "msg": "ok"}'), id="status is a string"),
        pytest.param(frame('{"status": " +0 ", "msg": "ok"}'), id="status is a padded string"),
        pytest.param(frame('{"status": 0.0, "msg": "ok"}'), id="status is 0.0"),
        pytest.param(frame(' \r\n{ "msg" : "ok" ,\t"status" : 0 } \n'), id="other order and white space"),
        pytest.param(b" \n" + frame() + b"\r\n", id="white space around"),
        pytest.param(frame(code=[1, {"deep": None}], id=7), id="unknown keys outside"),
        pytest.param(frame({"status": 0, "msg": "ok", "data": {"x": 1}}), id="unknown keys inside"),
        pytest.param(frame(cmd=None), id="cmd is null"),
        pytest.param(frame(cmd=5), id="cmd is a number"),
    ],
)
def test_is_read_liberally(liberal: str | bytes) -> None:
    assert decode_reply(liberal) == OK


@pytest.mark.parametrize("changes", [{"sn": None}, {}])
def test_a_reply_may_lack_the_sn(changes: dict[str, None]) -> None:
    written = json.dumps({"msgid": MSGID, "msg": {"status": 0}} | changes)
    assert decode_reply(written) == TerminalReply(msgid=MSGID, sn=None, status=0, message="")


@pytest.mark.parametrize("text", [None, 1, [], {}, True])
def test_a_message_that_is_not_text_is_read_as_empty(text: object) -> None:
    assert decode_reply(frame({"status": 3, "msg": text})) == TerminalReply(MSGID, SN, 3, "")


def test_a_text_is_cut_and_made_printable() -> None:
    reply = decode_reply(frame({"status": 1, "msg": "a\x00\x1b[2J\n" + "x" * 100_000}, cmd="y" * 1000))
    assert reply.message.startswith("a\ufffd\ufffd[2J\ufffdx")
    assert len(reply.message) == MAXIMUM_MESSAGE_LENGTH
    assert reply.message.isprintable()
    assert len(reply.cmd) == 32


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"ping",
        b"{}",
        b"[]",
        b"0",
        b"null",
        b'"text"',
        b"\xff\xfe\x00",
        b'{"msgid": "\xc3"}',
        "\ud800",
        b"[" * 100_000,
        b'{"msgid":' * 100_000,
        b"9" * 100_000,
        b'{"msgid": "m", "msg": {"status": NaN}}',
        b'{"msgid": "m", "msg": {"status": Infinity}}',
        b'{"msgid": "m", "msg": {"status": 1e999}}',
        b'{"msgid": "m", "msg": {"status": ' + b"9" * 300 + b"}}",
        b'{"msgid": "\\ud800", "msg": {"status": 0}}',
        b"{'msgid': 'm', 'msg': {'status': 0}}",
        b'{"msgid": "m", "msg": {"status": 0}} {}',
        json.dumps({"msgid": MSGID, "sn": SN, "cmd": "open", "msg": ""}).encode(),
        frame(msgid=None),
        frame(msgid=""),
        frame(msgid=1),
        frame(msgid=["m"]),
        frame(msgid="m" * 129),
        frame(msgid="a\nb"),
        frame(sn=1),
        frame(sn=""),
        frame(sn="S" * 65),
        frame(sn=[SN]),
        frame(None),
        frame(0),
        frame([{"status": 0}]),
        frame("ok"),
        frame("[]"),
        frame("[" * 100_000),
        frame("{'status': 0}"),
        frame('{"status": 0} // ok'),
        frame({}),
        frame({"msg": "ok"}),
        frame({"Status": 0}),
        frame({"status": None}),
        frame({"status": True}),
        frame({"status": False}),
        frame({"status": []}),
        frame({"status": ""}),
        frame({"status": "ok"}),
        frame({"status": "0x0"}),
        frame({"status": "1_0"}),
        frame({"status": "１"}),
        frame({"status": "9" * 10_000}),
        frame({"status": 0.5}),
        frame({"status": 2**53}),
        frame({"status": -(2**70)}),
        frame({"status": str(2**53)}),
    ],
    ids=lambda malformed: repr(malformed[:1500])[-60:],
)
def test_a_malformed_reply_raises_a_remote_protocol_error(malformed: str | bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_reply(malformed)
    assert len(str(caught.value)) < 100
    assert caught.value.__cause__ is None


def test_the_error_of_a_malformed_reply_has_its_msgid() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_reply(frame("not JSON"))
    assert caught.value.msgid == MSGID
    assert str(caught.value) == "msg is not JSON"


@pytest.mark.parametrize(
    "reply",
    [
        TerminalReply(msgid="", sn=SN, status=0, message=""),
        TerminalReply(msgid="m", sn="", status=0, message=""),
        TerminalReply(msgid="m", sn=None, status=0, message=""),
        TerminalReply(msgid="m", sn=SN, status=2**53, message=""),
        TerminalReply(msgid="m", sn=SN, status=0, message="\ud800"),
        TerminalReply(msgid="m", sn=SN, status=0, message="", cmd="\ud800"),
    ],
)
def test_a_reply_that_must_not_be_sent(reply: TerminalReply) -> None:
    with pytest.raises(LocalProtocolError):
        encode_reply(reply)


@pytest.mark.parametrize("text", ["", " ", "\r\n", "ping", "PING", " Ping\n", b"", b"ping"])
def test_a_keep_alive(text: str | bytes) -> None:
    assert is_keep_alive(text)


@pytest.mark.parametrize("text", ["pong", "ping!", "{}", "pingping", "\ud800", b"\xff", b"\x00"])
def test_not_a_keep_alive(text: str | bytes) -> None:
    assert not is_keep_alive(text)
