"""One table of requests and bytes tests encoder and decoder; then requests that neither accepts."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, replace

import orjson
import pytest

from bridge.protocol.encoding import EscapedPhoto, LocalProtocolError, RemoteProtocolError, escape_photo, unescape_photo
from bridge.protocol.requests import (
    NO_LIMIT,
    NO_NUMBER,
    UNLIMITED_PASSES,
    WEEKDAYS,
    OpenRequest,
    PersonFields,
    RebootRequest,
    RemovePersonRequest,
    Request,
    SetPersonRequest,
    decode_request,
    encode_open,
    encode_reboot,
    encode_remove_everyone,
    encode_remove_person,
    encode_set_person,
)

MSGID = "4f4d2a99-2355-46e2-b617-bcb89985d15f"
SN = "FEDCBA9876543210"

PERSON = PersonFields(
    id="12345678",
    name="Ada",
    card=NO_NUMBER,
    id_number=NO_NUMBER,
    photo=escape_photo("/9j/+A=="),
    start_ts=NO_LIMIT,
    end_ts=NO_LIMIT,
    pass_count=UNLIMITED_PASSES,
    visitor=False,
)

WORKDAY = "09:00-12:35;13:25-16:25;16:50-18:30"
WEEK = {day: "" if day in ("Saturday", "Sunday") else WORKDAY for day in WEEKDAYS}
WORKDAY_ON_THE_WIRE = "09%3A00-12%3A35%3B13%3A25-16%3A25%3B16%3A50-18%3A30"
WEEK_ON_THE_WIRE = (
    "%7B"
    + "%2C".join(
        f"%22{day}%22%3A%22{'' if day in ('Saturday', 'Sunday') else WORKDAY_ON_THE_WIRE}%22" for day in WEEKDAYS
    )
    + "%7D"
)


@dataclass(frozen=True)
class Case:
    name: str
    request: Request
    encode: Callable[[], bytes]
    cmd: str
    msg: str


CASES = [
    Case(
        "open",
        OpenRequest(msgid=MSGID, sn=SN),
        lambda: encode_open(msgid=MSGID, sn=SN),
        "open",
        "",
    ),
    Case(
        "reboot",
        RebootRequest(msgid=MSGID, sn=SN),
        lambda: encode_reboot(msgid=MSGID, sn=SN),
        "reboot",
        "",
    ),
    Case(
        "the least of a person",
        SetPersonRequest(msgid=MSGID, sn=SN, person=PERSON),
        lambda: encode_set_person(PERSON, msgid=MSGID, sn=SN),
        "setPerson",
        "id=12345678&name=Ada&IC_NO=00000000&ID_NO=00000000&photo=%2F9j%2F%2BA%3D%3D"
        "&startTs=-1&endTs=-1&passCount=10000&visitor=false",
    ),
    Case(
        "the whole of a person",
        SetPersonRequest(
            msgid=MSGID,
            sn=SN,
            person=replace(
                PERSON,
                key="abc",
                name="李 雷+&=/%",
                card="0012345678",
                id_number="440301199001011234",
                start_ts=1469069320,
                end_ts=1469069320.25,
                pass_count=0,
                visitor=True,
                weekly=WEEK,
            ),
        ),
        lambda: encode_set_person(
            replace(
                PERSON,
                key="abc",
                name="李 雷+&=/%",
                card="0012345678",
                id_number="440301199001011234",
                start_ts=1469069320.0,
                end_ts=1469069320.25,
                pass_count=0,
                visitor=True,
                weekly=dict(reversed(WEEK.items())),
            ),
            msgid=MSGID,
            sn=SN,
        ),
        "setPerson",
        "key=abc&id=12345678&name=%E6%9D%8E%20%E9%9B%B7%2B%26%3D%2F%25&IC_NO=0012345678"
        "&ID_NO=440301199001011234&photo=%2F9j%2F%2BA%3D%3D&startTs=1469069320&endTs=1469069320.25&passCount=0"
        f"&visitor=true&weekly={WEEK_ON_THE_WIRE}",
    ),
    Case(
        "remove one, as in the document",
        RemovePersonRequest(msgid=MSGID, sn=SN, ids=("12345678",), key="abc"),
        lambda: encode_remove_person("12345678", msgid=MSGID, sn=SN, key="abc"),
        "removePerson",
        "key=abc&id=%5B12345678%5D",
    ),
    Case(
        "remove one without a key",
        RemovePersonRequest(msgid=MSGID, sn=SN, ids=("a.b@c-d_e",)),
        lambda: encode_remove_person("a.b@c-d_e", msgid=MSGID, sn=SN),
        "removePerson",
        "id=%5Ba.b%40c-d_e%5D",
    ),
    Case(
        "remove everyone",
        RemovePersonRequest(msgid=MSGID, sn=SN, ids=(), key="abc"),
        lambda: encode_remove_everyone(msgid=MSGID, sn=SN, key="abc"),
        "removePerson",
        "key=abc&id=%5B%5D",
    ),
]


def frame(cmd: object = "open", msg: object = "", **changes: object) -> bytes:
    return json.dumps({"msgid": MSGID, "sn": SN, "cmd": cmd, "msg": msg, **changes}).encode()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_is_written_exactly_like_this(case: Case) -> None:
    expected = orjson.dumps({"msgid": MSGID, "sn": SN, "cmd": case.cmd, "msg": case.msg})
    assert case.encode() == expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("kind", [bytes, str])
def test_is_read_as_what_was_written(case: Case, kind: type) -> None:
    written = frame(case.cmd, case.msg)
    assert decode_request(written if kind is bytes else written.decode()) == case.request


def test_lower_case_escapes_of_the_document_are_read_too() -> None:
    msg = CASES[2].msg.replace("%2F", "%2f").replace("%3D", "%3d")
    request = decode_request(frame("setPerson", msg))
    assert isinstance(request, SetPersonRequest)
    assert unescape_photo(request.person.photo) == base64.b64decode("/9j/+A==")


def test_the_document_example_with_its_typing_error_is_not_read() -> None:
    msg = (
        "key=abc&name=test&IC_NO=00000000&ID_NO=00000000&photo==%2f9j%2f4AAQ"
        "&startTs=1469069320&endTs=1469069320&passCount=10000&visitor=false"
    )
    with pytest.raises(RemoteProtocolError, match="form"):
        decode_request(frame("setPerson", msg))


# Ids that could remove everyone, or other persons.


@pytest.mark.parametrize(
    "person_id",
    ["", "[]", "[", "]", ",", "1,2", "[1]", "1]", " ", "1 2", "\t", "\n", "\x00", "\u200b", "\u00a0", '""', "''"],
)
def test_an_id_that_could_mean_none_or_several_cannot_be_encoded(person_id: str) -> None:
    with pytest.raises(LocalProtocolError):
        encode_remove_person(person_id, msgid=MSGID, sn=SN)
    with pytest.raises(LocalProtocolError):
        encode_set_person(replace(PERSON, id=person_id), msgid=MSGID, sn=SN)


@pytest.mark.parametrize(
    "changes",
    [
        {"photo": EscapedPhoto("")},
        {"photo": EscapedPhoto("/9j/")},
        {"photo": EscapedPhoto("abc=")},
        {"photo": EscapedPhoto("abc&id=1")},
        {"photo": EscapedPhoto("a b")},
        {"photo": EscapedPhoto("照片")},
        {"start_ts": float("nan")},
        {"start_ts": float("inf")},
        {"end_ts": float("-inf")},
        {"end_ts": 1e300},
        {"end_ts": 10**400},
        {"start_ts": True},
        {"pass_count": -1},
        {"pass_count": 10001},
        {"pass_count": True},
        {"weekly": {}},
        {"weekly": {"Monday": ""}},
        {"weekly": WEEK | {"Funday": ""}},
        {"weekly": WEEK | {"Monday": "9:00-10:00"}},
        {"weekly": WEEK | {"Monday": "09:00-24:00"}},
        {"weekly": WEEK | {"Monday": "09:00-10:00;"}},
        {"weekly": WEEK | {"Monday": "09:00-10:60"}},
        {"weekly": WEEK | {"Monday": "09:00-10:00\n"}},
        {"name": "\ud800"},
        {"key": "\ud800"},
    ],
    ids=str,
)
def test_a_person_that_must_not_be_sent(changes: dict[str, object]) -> None:
    wrong = replace(PERSON, **changes)  # type: ignore[arg-type]  # wrong types are part of the table
    with pytest.raises(LocalProtocolError):
        encode_set_person(wrong, msgid=MSGID, sn=SN)


@pytest.mark.parametrize("identifier", ["", "x" * 129, "a\nb", "\ud800"])
def test_a_msgid_or_an_sn_that_must_not_be_sent(identifier: str) -> None:
    for encode in (encode_open, encode_reboot, encode_remove_everyone):
        with pytest.raises(LocalProtocolError):
            encode(msgid=identifier, sn=SN)
        with pytest.raises(LocalProtocolError):
            encode(msgid=MSGID, sn=identifier)


@pytest.mark.parametrize(
    "base64_text",
    ["", "ab", "abc", "ab=c", "abc\n", "ab c", "abc-", "ab_d", "abcé", "data:image/jpeg;base64,/9j/", "%2F9j%2F"],
)
def test_only_strict_base64_is_escaped(base64_text: str) -> None:
    with pytest.raises(LocalProtocolError):
        escape_photo(base64_text)


def test_a_photo_is_escaped_in_its_three_characters() -> None:
    assert escape_photo("+/+/AA==") == "%2B%2F%2B%2FAA%3D%3D"


def test_escapes_of_other_characters_are_not_base64() -> None:
    with pytest.raises(RemoteProtocolError):
        unescape_photo(EscapedPhoto("%41AAA"))


LEAST = CASES[2].msg


@pytest.mark.parametrize(
    "malformed",
    [
        b"",
        b"ping",
        b"{",
        b"[]",
        b"null",
        b'"open"',
        b"\xff\xfe",
        b'{"msgid": "\xff"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"msgid": 1e999}',
        b'{"msgid": NaN}',
        b'{"msgid": "\\ud800"}',
        b"9" * 100_000,
        "\ud800",
        frame(msgid=""),
        frame(msgid="x" * 129),
        frame(msgid=7),
        frame(msgid=None),
        frame(msgid="a\x00"),
        frame(sn=""),
        frame(sn=1),
        frame(extra=1),
        json.dumps({"msgid": MSGID, "sn": SN, "cmd": "open"}).encode(),
        frame("close"),
        frame("OPEN"),
        frame(1),
        frame(["open"]),
        frame("open", "x"),
        frame("open", {}),
        frame("open", None),
        frame("setPerson", ""),
        frame("setPerson", LEAST + "&"),
        frame("setPerson", LEAST + "&colour=red"),
        frame("setPerson", LEAST + "&id=2"),
        frame("setPerson", LEAST + "&weekly"),
        frame("setPerson", LEAST.replace("Ada", "Ada+Byron")),
        frame("setPerson", LEAST.replace("Ada", "Ada Byron")),
        frame("setPerson", LEAST.replace("Ada", "%C3")),
        frame("setPerson", LEAST.replace("Ada", "%2")),
        frame("setPerson", LEAST.replace("Ada", "%zz")),
        frame("setPerson", LEAST.replace("Ada", "李")),
        frame("setPerson", LEAST.replace("name", "Name")),
        frame("setPerson", LEAST.replace("id=12345678&", "")),
        frame("setPerson", LEAST.replace("id=12345678", "id=")),
        frame("setPerson", LEAST.replace("photo=%2F9j%2F%2BA%3D%3D", "photo=")),
        frame("setPerson", LEAST.replace("startTs=-1", "startTs=1e9")),
        frame("setPerson", LEAST.replace("startTs=-1", "startTs=NaN")),
        frame("setPerson", LEAST.replace("startTs=-1", "startTs=" + "9" * 16)),
        frame("setPerson", LEAST.replace("startTs=-1", "startTs=" + "9" * 10_000)),
        frame("setPerson", LEAST.replace("startTs=-1", "startTs=%EF%BC%91")),
        frame("setPerson", LEAST.replace("10000", "10001")),
        frame("setPerson", LEAST.replace("10000", "9" * 10_000)),
        frame("setPerson", LEAST.replace("10000", "1.0")),
        frame("setPerson", LEAST.replace("visitor=false", "visitor=False")),
        frame("setPerson", LEAST + "&weekly=%7B%7D"),
        frame("setPerson", LEAST + "&weekly=%5B%5D"),
        frame("setPerson", LEAST + "&weekly=" + "%5B" * 5000),
        frame("setPerson", LEAST + "&weekly=" + WEEK_ON_THE_WIRE.replace("%22%22", "null")),
        frame("removePerson", ""),
        frame("removePerson", "id="),
        frame("removePerson", "id=1"),
        frame("removePerson", "id=%5B"),
        frame("removePerson", "id=%5B%2C%5D"),
        frame("removePerson", "id=%5B1%2C%5D"),
        frame("removePerson", "id=%5B%20%5D"),
        frame("removePerson", "id=[1]"),
        frame("removePerson", "key=abc"),
    ],
    ids=lambda malformed: repr(malformed[:1500])[-60:],
)
def test_a_malformed_request_raises_a_remote_protocol_error(malformed: str | bytes) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_request(malformed)
    assert len(str(caught.value)) < 100
    assert caught.value.__cause__ is None


def test_the_error_of_a_malformed_request_has_its_msgid() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode_request(frame("setPerson", LEAST.replace("name=Ada&", "")))
    assert caught.value.msgid == MSGID
    assert str(caught.value) == "msg has no name"


def test_several_ids_are_read_in_order() -> None:
    request = decode_request(frame("removePerson", "id=%5B2%2C1%5D"))
    assert isinstance(request, RemovePersonRequest)
    assert request.ids == ("2", "1")


def test_repr_hides_name_photo_and_key() -> None:
    shown = repr(
        SetPersonRequest(msgid=MSGID, sn=SN, person=replace(PERSON, key="abc-key", card="4711", id_number="4712"))
    )
    for private in ("Ada", "9j", "abc-key", "4711", "4712"):
        assert private not in shown
    assert "abc-key" not in repr(RemovePersonRequest(msgid=MSGID, sn=SN, ids=("1",), key="abc-key"))
