"""Requests to a terminal: `setPerson`, `removePerson`, `open`, `reboot`.

The encoders are strict, because no check follows them: `id=[]` removes every person from the terminal, so only
`encode_remove_everyone` can write it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

import orjson

from bridge.protocol.encoding import (
    MAXIMUM_MSGID_LENGTH,
    MAXIMUM_SN_LENGTH,
    EscapedPhoto,
    LocalProtocolError,
    RemoteProtocolError,
    decode_object,
    encode_envelope,
    escape,
    is_escaped,
    join_form,
    read_identifier,
    split_form,
    unescape,
)

NO_NUMBER = "00000000"
"""The card or identity number of a person without one, as in the vendor's example."""

NO_LIMIT = -1
"""A `start_ts` or `end_ts` without a limit."""

UNLIMITED_PASSES = 10000
"""A `pass_count` without a limit; the largest allowed value."""

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""The keys of `weekly`."""

MAXIMUM_TIMESTAMP_SECONDS = 2**53
"""Seconds before or after the epoch. Up to this a terminal's `double` holds every whole second."""

_DAY = re.compile(r"(?:{time}-{time}(?:;{time}-{time})*)?".format(time="(?:[01][0-9]|2[0-3]):[0-5][0-9]"))
_TIMESTAMP = re.compile(r"-?[0-9]{1,16}(?:\.[0-9]{1,400})?")
_PASS_COUNT = re.compile(r"[0-9]{1,5}")
_VISITOR = {"true": True, "false": False}

# In the order of the vendor's document.
_REQUIRED_PERSON_FIELDS = ("id", "name", "IC_NO", "ID_NO", "photo", "startTs", "endTs", "passCount")
_OPTIONAL_PERSON_FIELDS = ("key", "visitor", "weekly")


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonFields:
    """A person as a `setPerson` request holds it; the vendor's name of each field is in brackets.

    The codec sends the values unchanged. The caller puts in `NO_NUMBER` for a person without a card or identity number,
    `NO_LIMIT`, and `UNLIMITED_PASSES`.

    Attributes:
        id: the person; a person with this id is replaced [id].
        name: shown by the terminal [name].
        card: card number, sent to the gate as a Wiegand number [IC_NO].
        id_number: identity-card number [ID_NO].
        photo: a JPEG of at most 1080x1080, as `escape_photo` returns it [photo].
        start_ts: the person may pass after this time, in seconds since the epoch [startTs].
        end_ts: the person may pass until this time, in seconds since the epoch [endTs].
        pass_count: passes allowed between these times, 0 to `UNLIMITED_PASSES` [passCount].
        visitor: for older versions of the protocol [visitor].
        weekly: for all seven `WEEKDAYS`, ranges `HH:MM-HH:MM` joined with `;`, empty for a day without permission; None
            leaves the field out [weekly].
        key: the terminal's secret; None leaves the field out [key].
    """

    id: str
    name: str = field(repr=False)
    card: str = field(repr=False)
    id_number: str = field(repr=False)
    photo: EscapedPhoto = field(repr=False)
    start_ts: float
    end_ts: float
    pass_count: int
    visitor: bool
    weekly: Mapping[str, str] | None = None
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """Open the door."""

    msgid: str
    sn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RebootRequest:
    """Restart the terminal."""

    msgid: str
    sn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetPersonRequest:
    """Add or change a person."""

    msgid: str
    sn: str
    person: PersonFields


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovePersonRequest:
    """Remove persons.

    Attributes:
        ids: the persons; empty means everyone on the terminal.
        key: the terminal's secret, if it was sent.
    """

    msgid: str
    sn: str
    ids: tuple[str, ...]
    key: str | None = field(default=None, repr=False)


Request = OpenRequest | RebootRequest | SetPersonRequest | RemovePersonRequest


def encode_open(*, msgid: str, sn: str) -> bytes:
    """Return the frame of an `open` request.

    Raises:
        LocalProtocolError: the msgid or the SN cannot be sent.
    """
    return encode_envelope(msgid=msgid, sn=sn, cmd="open", msg="")


def encode_reboot(*, msgid: str, sn: str) -> bytes:
    """Return the frame of a `reboot` request.

    Raises:
        LocalProtocolError: the msgid or the SN cannot be sent.
    """
    return encode_envelope(msgid=msgid, sn=sn, cmd="reboot", msg="")


def encode_set_person(person: PersonFields, *, msgid: str, sn: str) -> bytes:
    """Return the frame of a `setPerson` request.

    Raises:
        LocalProtocolError: a field, the msgid or the SN cannot be sent.
    """
    fault = _find_fault(person)
    if fault is not None:
        raise LocalProtocolError(fault)
    fields = [
        *_key_field(person.key),
        ("id", escape(person.id)),
        ("name", escape(person.name)),
        ("IC_NO", escape(person.card)),
        ("ID_NO", escape(person.id_number)),
        ("photo", person.photo),
        ("startTs", _format_timestamp(person.start_ts)),
        ("endTs", _format_timestamp(person.end_ts)),
        ("passCount", str(person.pass_count)),
        ("visitor", "true" if person.visitor else "false"),
    ]
    if person.weekly is not None:
        week = {day: person.weekly[day] for day in WEEKDAYS}
        fields.append(("weekly", escape(orjson.dumps(week).decode())))
    return encode_envelope(msgid=msgid, sn=sn, cmd="setPerson", msg=join_form(fields))


def encode_remove_person(person_id: str, *, msgid: str, sn: str, key: str | None = None) -> bytes:
    """Return the frame of a `removePerson` request for one person, never for everyone.

    Raises:
        LocalProtocolError: the id is empty or could be read as none or several; the msgid, the SN or the key cannot be
            sent.
    """
    if not _is_person_id(person_id):
        raise LocalProtocolError(_BAD_ID)
    fields = [*_key_field(key), ("id", escape(f"[{person_id}]"))]
    return encode_envelope(msgid=msgid, sn=sn, cmd="removePerson", msg=join_form(fields))


def encode_remove_everyone(*, msgid: str, sn: str, key: str | None = None) -> bytes:
    """Return the frame of the `removePerson` request that removes every person from the terminal.

    Use it only for a command that explicitly requests and confirms the removal of everyone.

    Raises:
        LocalProtocolError: the msgid, the SN or the key cannot be sent.
    """
    fields = [*_key_field(key), ("id", escape("[]"))]
    return encode_envelope(msgid=msgid, sn=sn, cmd="removePerson", msg=join_form(fields))


def decode_request(frame: str | bytes) -> Request:
    """Read a request as a strict terminal does.

    Only the escapes of the photo are checked, not the picture: what terminals accept is not documented.

    Raises:
        RemoteProtocolError: the frame is not exactly as one of the encoders above writes it.
    """
    envelope = decode_object(frame, "the frame")
    msgid = read_identifier(envelope.get("msgid"), "msgid", MAXIMUM_MSGID_LENGTH)
    try:
        if envelope.keys() != {"msgid", "sn", "cmd", "msg"}:
            raise RemoteProtocolError("a request has the keys msgid, sn, cmd and msg and no other")
        sn = read_identifier(envelope["sn"], "sn", MAXIMUM_SN_LENGTH)
        return _read_command(envelope["cmd"], envelope["msg"], msgid=msgid, sn=sn)
    except RemoteProtocolError as error:
        raise RemoteProtocolError(str(error), msgid=msgid) from None


def _read_command(cmd: object, msg: object, *, msgid: str, sn: str) -> Request:
    if not isinstance(msg, str):
        raise RemoteProtocolError("msg is not a string")
    match cmd:
        case "open" | "reboot":
            if msg:
                raise RemoteProtocolError("msg of open and reboot is empty")
            return OpenRequest(msgid=msgid, sn=sn) if cmd == "open" else RebootRequest(msgid=msgid, sn=sn)
        case "setPerson":
            return SetPersonRequest(msgid=msgid, sn=sn, person=_read_person(msg))
        case "removePerson":
            fields = split_form(msg, required=("id",), optional=("key",))
            return RemovePersonRequest(
                msgid=msgid, sn=sn, ids=_read_ids(unescape(fields["id"])), key=_read_optional(fields, "key")
            )
        case _:
            raise RemoteProtocolError("cmd is unknown")


def _read_person(msg: str) -> PersonFields:
    fields = split_form(msg, required=_REQUIRED_PERSON_FIELDS, optional=_OPTIONAL_PERSON_FIELDS)
    visitor = fields.get("visitor", "false")
    if visitor not in _VISITOR:
        raise RemoteProtocolError("visitor is neither true nor false")
    if _PASS_COUNT.fullmatch(fields["passCount"]) is None:
        raise RemoteProtocolError("passCount is not a whole number in the allowed range")
    person = PersonFields(
        id=unescape(fields["id"]),
        name=unescape(fields["name"]),
        card=unescape(fields["IC_NO"]),
        id_number=unescape(fields["ID_NO"]),
        photo=EscapedPhoto(fields["photo"]),
        start_ts=_read_timestamp(fields["startTs"]),
        end_ts=_read_timestamp(fields["endTs"]),
        pass_count=int(fields["passCount"]),
        visitor=_VISITOR[visitor],
        weekly=_read_weekly(_read_optional(fields, "weekly")),
        key=_read_optional(fields, "key"),
    )
    fault = _find_fault(person)
    if fault is not None:
        raise RemoteProtocolError(fault)
    return person


def _read_ids(value: str) -> tuple[str, ...]:
    if not (value.startswith("[") and value.endswith("]")):
        raise RemoteProtocolError("id is not a list in brackets")
    inner = value[1:-1]
    ids = tuple(inner.split(",")) if inner else ()
    if not all(_is_person_id(id_) for id_ in ids):
        raise RemoteProtocolError(_BAD_ID)
    return ids


def _read_weekly(text: str | None) -> dict[str, str] | None:
    if text is None:
        return None
    week: dict[str, str] = {}
    for day, ranges in decode_object(text, "weekly").items():
        if not isinstance(ranges, str):
            raise RemoteProtocolError("weekly contains a value that is not a string")
        week[day] = ranges
    return week


def _read_timestamp(value: str) -> float:
    if _TIMESTAMP.fullmatch(value) is None:
        raise RemoteProtocolError("a timestamp is not a number in the allowed range")
    return float(value) if "." in value else int(value)


def _read_optional(fields: Mapping[str, str], name: str) -> str | None:
    value = fields.get(name)
    return None if value is None else unescape(value)


def _key_field(key: str | None) -> list[tuple[str, str]]:
    return [] if key is None else [("key", escape(key))]


def _format_timestamp(value: float) -> str:
    """Return a number as in the vendor's examples: without exponent, and without a fraction if it is whole."""
    return str(int(value)) if value == int(value) else format(Decimal(repr(value)), "f")


_BAD_ID = "an id is printable, not empty, and holds no space, bracket, comma or quotation mark"


def _is_person_id(text: str) -> bool:
    """Return whether an id stays one id inside `[…]`, whichever characters a terminal's parser skips or splits at."""
    return bool(text) and text.isprintable() and not any(character in text for character in " []," + "\"'")


def _find_fault(person: PersonFields) -> str | None:
    """Return what breaks the protocol in a person, or None. The same rules hold for writing and reading."""
    if not _is_person_id(person.id):
        return _BAD_ID
    if not person.photo or not is_escaped(person.photo):
        return "the photo is empty or not escaped"
    for timestamp in (person.start_ts, person.end_ts):
        # Also refuses NaN, for which every comparison is false.
        if (
            type(timestamp) not in (int, float)
            or not -MAXIMUM_TIMESTAMP_SECONDS <= timestamp <= MAXIMUM_TIMESTAMP_SECONDS
        ):
            return "a timestamp is a finite number of seconds in the allowed range"
    if type(person.pass_count) is not int or not 0 <= person.pass_count <= UNLIMITED_PASSES:
        return f"a pass count is a whole number from 0 to {UNLIMITED_PASSES}"
    if person.weekly is None:
        return None
    if person.weekly.keys() != set(WEEKDAYS):
        return "weekly gives all seven days and nothing else"
    if not all(_DAY.fullmatch(ranges) for ranges in person.weekly.values()):
        return 'a day of weekly is ranges of "HH:MM-HH:MM" joined with ";", or empty'
    return None
