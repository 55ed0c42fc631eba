"""Properties of the codec for every value of every field, and for every input."""

import base64
import json
from contextlib import suppress
from dataclasses import replace
from urllib.parse import parse_qs, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.protocol.encoding import LocalProtocolError, RemoteProtocolError, escape_photo, unescape_photo
from bridge.protocol.replies import MAXIMUM_STATUS, TerminalReply, decode_reply, encode_reply, is_keep_alive
from bridge.protocol.requests import (
    MAXIMUM_TIMESTAMP_SECONDS,
    WEEKDAYS,
    PersonFields,
    RemovePersonRequest,
    SetPersonRequest,
    decode_request,
    encode_remove_everyone,
    encode_remove_person,
    encode_set_person,
)

TEXT = st.text(max_size=50)
PRINTABLE = TEXT.filter(str.isprintable)
IDENTIFIERS = st.text(min_size=1, max_size=64).filter(str.isprintable)
PERSON_IDS = IDENTIFIERS.filter(lambda text: not set(text) & set(" []," + "\"'"))
PHOTOS = st.binary(min_size=1, max_size=300).map(lambda data: escape_photo(base64.b64encode(data).decode()))
BOUND = float(MAXIMUM_TIMESTAMP_SECONDS)
TIMESTAMPS = st.one_of(
    st.just(-1),
    st.integers(-MAXIMUM_TIMESTAMP_SECONDS, MAXIMUM_TIMESTAMP_SECONDS),
    st.floats(-BOUND, BOUND),
    st.floats(1.7e9, 1.9e9),
)
TIMES = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
DAYS = st.lists(st.builds("{}-{}".format, TIMES, TIMES), max_size=4).map(";".join)
PERSONS = st.builds(
    PersonFields,
    id=PERSON_IDS,
    name=TEXT,
    card=TEXT,
    id_number=TEXT,
    photo=PHOTOS,
    start_ts=TIMESTAMPS,
    end_ts=TIMESTAMPS,
    pass_count=st.integers(0, 10000),
    visitor=st.booleans(),
    weekly=st.none() | st.fixed_dictionaries(dict.fromkeys(WEEKDAYS, DAYS)),
    key=st.none() | TEXT,
)
REPLIES = st.builds(
    TerminalReply,
    msgid=IDENTIFIERS,
    sn=IDENTIFIERS,
    status=st.integers(-MAXIMUM_STATUS, MAXIMUM_STATUS),
    message=PRINTABLE,
    cmd=PRINTABLE.filter(lambda text: len(text) <= 32),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(person=PERSONS, msgid=IDENTIFIERS, sn=IDENTIFIERS)
def test_a_person_is_read_as_it_was_written(person: PersonFields, msgid: str, sn: str) -> None:
    written = encode_set_person(person, msgid=msgid, sn=sn)
    assert decode_request(written) == SetPersonRequest(msgid=msgid, sn=sn, person=person)


@given(person=PERSONS)
def test_strict_and_naive_form_decoders_read_the_same(person: PersonFields) -> None:
    envelope = json.loads(encode_set_person(person, msgid="m", sn="s"))
    assert list(envelope) == ["msgid", "sn", "cmd", "msg"]
    assert all(isinstance(value, str) for value in envelope.values())
    msg = envelope["msg"]

    strict = parse_qs(msg, keep_blank_values=True, strict_parsing=True, errors="strict")
    naive = {part.split("=")[0]: [unquote(part.split("=")[1])] for part in msg.split("&")}

    assert strict == naive
    assert naive["name"] == [person.name]
    assert naive["IC_NO"] == [person.card]
    assert naive["ID_NO"] == [person.id_number]
    assert base64.b64decode(naive["photo"][0], validate=True) == unescape_photo(person.photo)
    assert (float(naive["startTs"][0]), float(naive["endTs"][0])) == (person.start_ts, person.end_ts)
    assert "e" not in naive["startTs"][0] + naive["endTs"][0]
    assert json.loads(naive["weekly"][0]) == person.weekly if person.weekly is not None else "weekly" not in naive
    assert naive.get("key") == (None if person.key is None else [person.key])


@given(seconds=st.integers(-MAXIMUM_TIMESTAMP_SECONDS, MAXIMUM_TIMESTAMP_SECONDS))
def test_a_whole_timestamp_has_neither_fraction_nor_exponent(seconds: int) -> None:
    person = PersonFields(
        id="1",
        name="",
        card="",
        id_number="",
        photo=escape_photo("AAAA"),
        start_ts=float(seconds),
        end_ts=seconds,
        pass_count=1,
        visitor=False,
    )
    fields = parse_qs(json.loads(encode_set_person(person, msgid="m", sn="s"))["msg"], keep_blank_values=True)
    assert fields["startTs"] == fields["endTs"] == [str(seconds)]


@given(data=st.binary(min_size=1))
def test_a_photo_comes_back_byte_for_byte(data: bytes) -> None:
    escaped = escape_photo(base64.b64encode(data).decode())
    assert unquote(escaped) == base64.b64encode(data).decode()
    assert unescape_photo(escaped) == data


@given(person_id=TEXT, key=st.none() | TEXT)
def test_no_id_removes_another_person(person_id: str, key: str | None) -> None:
    try:
        written = encode_remove_person(person_id, msgid="m", sn="s", key=key)
    except LocalProtocolError:
        return
    assert decode_request(written) == RemovePersonRequest(msgid="m", sn="s", ids=(person_id,), key=key)
    # As a list parser reads it that skips white space and quotation marks.
    inner = parse_qs(json.loads(written)["msg"], keep_blank_values=True)["id"][0]
    assert [part.strip(" \t\r\n\0\"'") for part in inner.strip("[]").split(",")] == [person_id]


@given(key=st.none() | TEXT)
def test_everyone_is_removed_with_any_key(key: str | None) -> None:
    written = encode_remove_everyone(msgid="m", sn="s", key=key)
    assert decode_request(written) == RemovePersonRequest(msgid="m", sn="s", ids=(), key=key)


@given(reply=REPLIES)
def test_a_reply_is_read_as_it_was_written(reply: TerminalReply) -> None:
    assert decode_reply(encode_reply(reply)) == reply


@given(reply=REPLIES, ascii_only=st.booleans(), indent=st.none() | st.integers(0, 4), extra=JSON)
def test_a_reply_reads_the_same_in_every_spelling(
    reply: TerminalReply, ascii_only: bool, indent: int | None, extra: object
) -> None:
    extra = json.loads(json.dumps(extra).replace("NaN", "0").replace("-Infinity", "0").replace("Infinity", "0"))
    answer = {"extra": extra, "msg": reply.message, "status": str(reply.status)}
    for msg in (answer, json.dumps(answer, ensure_ascii=ascii_only, indent=indent)):
        envelope = {"extra": extra, "msg": msg, "cmd": reply.cmd, "sn": reply.sn, "msgid": reply.msgid}
        assert decode_reply(json.dumps(envelope, ensure_ascii=ascii_only, indent=indent)) == reply


def only_protocol_errors(frame: str | bytes) -> None:
    """Fail if a decoder raises another exception."""
    for decode in (decode_request, decode_reply):
        with suppress(RemoteProtocolError):
            decode(frame)
    is_keep_alive(frame)


@given(frame=st.binary() | st.text() | st.text(st.characters(codec=None)))
def test_any_frame_raises_only_protocol_errors(frame: str | bytes) -> None:
    only_protocol_errors(frame)


@given(value=JSON)
def test_any_json_raises_only_protocol_errors(value: object) -> None:
    only_protocol_errors(json.dumps(value))
    envelope = {"msgid": "m", "sn": "s", "cmd": "setPerson", "msg": "id=%5B1%5D"}
    for name in envelope:
        only_protocol_errors(json.dumps(envelope | {name: value}))
        only_protocol_errors(json.dumps(envelope | {name: json.dumps(value)}))
    for answer in ({"status": value}, {"status": 0, "msg": value}):
        only_protocol_errors(json.dumps(envelope | {"msg": answer}))
        only_protocol_errors(json.dumps(envelope | {"msg": json.dumps(answer)}))


@given(
    valid=st.one_of(
        PERSONS.map(lambda person: encode_set_person(person, msgid="m", sn="s")),
        PERSON_IDS.map(lambda person_id: encode_remove_person(person_id, msgid="m", sn="s")),
        REPLIES.map(encode_reply),
    ),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    put=st.binary(max_size=8),
)
def test_any_damaged_frame_raises_only_protocol_errors(valid: bytes, cut: tuple[float, float], put: bytes) -> None:
    start, end = sorted(int(share * len(valid)) for share in cut)
    only_protocol_errors(valid[:start] + put + valid[end:])
    only_protocol_errors(valid[:start] + put + valid[start:])


@given(person=PERSONS, name=st.sampled_from(["id", "name", "card", "id_number", "key"]))
def test_a_lone_surrogate_is_never_sent(person: PersonFields, name: str) -> None:
    broken = replace(person, **{name: "\udcff"})  # type: ignore[arg-type]  # each of the names is a text
    with pytest.raises(LocalProtocolError):
        encode_set_person(broken, msgid="m", sn="s")
