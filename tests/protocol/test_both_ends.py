"""The bridge's and the terminal's side of the codec, connected without a socket."""

from bridge.protocol.encoding import RemoteProtocolError, escape_photo
from bridge.protocol.replies import TerminalReply, decode_reply, encode_reply
from bridge.protocol.requests import (
    NO_LIMIT,
    NO_NUMBER,
    UNLIMITED_PASSES,
    OpenRequest,
    PersonFields,
    RebootRequest,
    RemovePersonRequest,
    SetPersonRequest,
    decode_request,
    encode_open,
    encode_reboot,
    encode_remove_everyone,
    encode_remove_person,
    encode_set_person,
)

SN = "FEDCBA9876543210"


class Pair:
    """A terminal that holds persons and exchanges bytes with the bridge's codec."""

    def __init__(self) -> None:
        self.persons: dict[str, PersonFields] = {}
        self.done: list[str] = []

    def exchange(self, frame: bytes) -> TerminalReply:
        try:
            request = decode_request(frame)
        except RemoteProtocolError as error:
            return decode_reply(encode_reply(TerminalReply(error.msgid or "unread", SN, 1, str(error))))
        match request:
            case OpenRequest():
                self.done.append("open")
            case RebootRequest():
                self.done.append("reboot")
            case SetPersonRequest(person=person):
                self.persons[person.id] = person
            case RemovePersonRequest(ids=()):
                self.persons.clear()
            case RemovePersonRequest(ids=ids):
                for person_id in ids:
                    self.persons.pop(person_id, None)
        return decode_reply(encode_reply(TerminalReply(request.msgid, request.sn, 0, "ok")))


def person(person_id: str) -> PersonFields:
    return PersonFields(
        id=person_id,
        name=f"Person {person_id}",
        card=NO_NUMBER,
        id_number=NO_NUMBER,
        photo=escape_photo("/9j/4AAQ"),
        start_ts=NO_LIMIT,
        end_ts=NO_LIMIT,
        pass_count=UNLIMITED_PASSES,
        visitor=False,
    )


def test_a_terminal_carries_out_each_request() -> None:
    pair = Pair()

    def ok(msgid: str) -> TerminalReply:
        return TerminalReply(msgid, SN, 0, "ok")

    assert pair.exchange(encode_open(msgid="1", sn=SN)) == ok("1")
    assert pair.exchange(encode_reboot(msgid="2", sn=SN)) == ok("2")
    assert pair.done == ["open", "reboot"]
    for number in ("1", "2", "3"):
        assert pair.exchange(encode_set_person(person(number), msgid=f"s{number}", sn=SN)) == ok(f"s{number}")
    assert pair.persons == {number: person(number) for number in ("1", "2", "3")}
    assert pair.exchange(encode_remove_person("2", msgid="r", sn=SN)) == ok("r")
    assert set(pair.persons) == {"1", "3"}
    assert pair.exchange(encode_remove_everyone(msgid="all", sn=SN)) == ok("all")
    assert pair.persons == {}


def test_a_damaged_request_is_refused_under_its_msgid() -> None:
    pair = Pair()
    damaged = encode_set_person(person("1"), msgid="7", sn=SN).replace(b"passCount", b"PassCount")
    reply = pair.exchange(damaged)
    assert (reply.msgid, reply.status) == ("7", 1)
    assert pair.persons == {}
