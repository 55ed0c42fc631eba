"""The memory and the actions of a simulated terminal, apart from its connection."""

import hashlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image

from bridge.protocol.encoding import RemoteProtocolError, unescape_photo
from bridge.protocol.requests import (
    OpenRequest,
    PersonFields,
    RebootRequest,
    RemovePersonRequest,
    Request,
    SetPersonRequest,
)

# The vendor's document only says that status 0 is success; the other numbers are the simulator's own.
STATUS_OK = 0
STATUS_UNREADABLE = 1
STATUS_BAD_PHOTO = 2
STATUS_WRONG_SN = 3

MAX_PHOTO_SIDE_PIXELS = 1080
"""The largest photo of the vendor's document is 1080x1080."""

_MAX_REMEMBERED_REQUESTS = 1000
"""Requests that each terminal keeps for tests; a bound, because a fleet has thousands of terminals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPerson:
    """A person on the terminal: the fields of `PersonFields`, with a digest in place of the photo.

    Attributes:
        photo_sha256: hexadecimal digest of the JPEG.
        photo_length: size of the JPEG in bytes.
    """

    id: str
    name: str = field(repr=False)
    card: str = field(repr=False)
    id_number: str = field(repr=False)
    start_ts: float
    end_ts: float
    pass_count: int
    visitor: bool
    weekly: Mapping[str, str] | None
    key: str | None = field(repr=False)
    photo_sha256: str
    photo_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedRequest:
    """A request that the terminal received, whether or not it was carried out.

    Attributes:
        cmd: `open`, `reboot`, `setPerson` or `removePerson`.
        msgid: of the frame.
        at: when the terminal read it, in seconds of its clock.
        ids: the persons in the request; empty for `open`, `reboot` and the removal of all persons.
        key: the terminal's secret, if it was sent.
    """

    cmd: str
    msgid: str
    at: float
    ids: tuple[str, ...] = ()
    key: str | None = field(default=None, repr=False)

    @property
    def concerns(self) -> tuple[str | None, ...]:
        """The persons in the request, with None for all persons; empty for `open` and `reboot`."""
        return self.ids or ((None,) if self.cmd == "removePerson" else ())


@dataclass(frozen=True, slots=True)
class SimulatedAnswer:
    """The answer to a request."""

    status: int
    text: str


OK = SimulatedAnswer(STATUS_OK, "ok")


class Device:
    """A terminal's memory and door.

    Attributes:
        persons: the persons that the terminal holds, by id.
        opened: how often the door was opened.
        rebooted: how often the terminal was restarted.
        requests: the latest requests, oldest first.
        received: the total number of requests by `cmd`.
    """

    def __init__(self, sn: str) -> None:
        self.sn = sn
        self.persons: dict[str, HeldPerson] = {}
        self.opened = 0
        self.rebooted = 0
        self.requests: deque[ReceivedRequest] = deque(maxlen=_MAX_REMEMBERED_REQUESTS)
        self.received: Counter[str] = Counter()

    def record(self, request: Request, at: float) -> ReceivedRequest:
        """Record a request, and return the record."""
        received = _summarise(request, at)
        self.requests.append(received)
        self.received[received.cmd] += 1
        return received

    def carry_out(self, request: Request) -> SimulatedAnswer:
        """Carry out a request, or refuse it."""
        if request.sn != self.sn:
            return SimulatedAnswer(STATUS_WRONG_SN, "this is another terminal")
        match request:
            case OpenRequest():
                self.opened += 1
            case RebootRequest():
                self.rebooted += 1
            case SetPersonRequest(person=person):
                return self._set_person(person)
            case RemovePersonRequest(ids=()):
                self.persons.clear()
            case RemovePersonRequest(ids=ids):
                for person_id in ids:
                    self.persons.pop(person_id, None)
        return OK

    def _set_person(self, person: PersonFields) -> SimulatedAnswer:
        try:
            picture = unescape_photo(person.photo)
        except RemoteProtocolError as error:
            return SimulatedAnswer(STATUS_BAD_PHOTO, str(error))
        fault = _find_fault(picture)
        if fault is not None:
            return SimulatedAnswer(STATUS_BAD_PHOTO, fault)
        self.persons[person.id] = HeldPerson(
            id=person.id,
            name=person.name,
            card=person.card,
            id_number=person.id_number,
            start_ts=person.start_ts,
            end_ts=person.end_ts,
            pass_count=person.pass_count,
            visitor=person.visitor,
            weekly=person.weekly,
            key=person.key,
            photo_sha256=hashlib.sha256(picture).hexdigest(),
            photo_length=len(picture),
        )
        return OK


def _find_fault(picture: bytes) -> str | None:
    """Return the fault of a picture; reads only its header, because fleets receive thousands of photos a second."""
    try:
        with Image.open(BytesIO(picture), formats=("JPEG",)) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "the photo is not a JPEG"
    if max(width, height) > MAX_PHOTO_SIDE_PIXELS:
        return f"the photo is larger than {MAX_PHOTO_SIDE_PIXELS}x{MAX_PHOTO_SIDE_PIXELS}"
    return None


def _summarise(request: Request, at: float) -> ReceivedRequest:
    match request:
        case OpenRequest(msgid=msgid):
            return ReceivedRequest(cmd="open", msgid=msgid, at=at)
        case RebootRequest(msgid=msgid):
            return ReceivedRequest(cmd="reboot", msgid=msgid, at=at)
        case SetPersonRequest(msgid=msgid, person=person):
            return ReceivedRequest(cmd="setPerson", msgid=msgid, at=at, ids=(person.id,), key=person.key)
        case RemovePersonRequest(msgid=msgid, ids=ids, key=key):
            return ReceivedRequest(cmd="removePerson", msgid=msgid, at=at, ids=ids, key=key)
