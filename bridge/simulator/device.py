"""What a simulated terminal holds and does, apart from its connection."""

import hashlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO

from PIL import Image

from bridge.protocol.errors import RemoteProtocolError
from bridge.protocol.photos import unescape_photo
from bridge.protocol.requests import (
    OpenRequest,
    PersonFields,
    RebootRequest,
    RemovePersonRequest,
    Request,
    SetPersonRequest,
)

# Of a status the document says only that 0 is success; these numbers are the simulator's own.
STATUS_OK = 0
STATUS_UNREADABLE = 1
STATUS_BAD_PHOTO = 2
STATUS_WRONG_SN = 3

MAXIMUM_PICTURE_SIDE = 1080
"""Pixels; the document's largest photo is 1080x1080."""

_REMEMBERED_REQUESTS = 1000
"""Requests kept for looking at; a fleet of thousands keeps that many each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldPerson:
    """A person as the terminal holds it: the fields of `PersonFields`, the photo by its digest.

    Attributes:
        photo_sha256: hexadecimal digest of the JPEG that arrived.
        photo_length: bytes of that JPEG.
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
    """A request that reached the terminal, whatever became of it.

    Attributes:
        cmd: `open`, `reboot`, `setPerson` or `removePerson`.
        msgid: the frame's own.
        at: when it was read, on the terminal's clock, in seconds.
        ids: the persons it is about; empty for `open`, `reboot` and the removal of everyone.
        key: the terminal's secret, where it was sent.
    """

    cmd: str
    msgid: str
    at: float
    ids: tuple[str, ...] = ()
    key: str | None = field(default=None, repr=False)

    @property
    def concerns(self) -> tuple[str | None, ...]:
        """The persons it is about, None for everyone; nobody where it is about the door."""
        return self.ids or ((None,) if self.cmd == "removePerson" else ())


@dataclass(frozen=True, slots=True)
class SimulatedAnswer:
    """What the terminal says to a request."""

    status: int
    text: str


OK = SimulatedAnswer(STATUS_OK, "ok")


class Device:
    """The terminal's memory and its door.

    Attributes:
        persons: whom it holds, by id.
        opened: how often the door was opened.
        rebooted: how often it was restarted.
        requests: the latest that came, oldest first.
        received: how many came in all, by `cmd`.
    """

    def __init__(self, sn: str) -> None:
        self.sn = sn
        self.persons: dict[str, HeldPerson] = {}
        self.opened = 0
        self.rebooted = 0
        self.requests: deque[ReceivedRequest] = deque(maxlen=_REMEMBERED_REQUESTS)
        self.received: Counter[str] = Counter()

    def record(self, request: Request, at: float) -> ReceivedRequest:
        """Remember that a request came, and return what is remembered."""
        received = _summarise(request, at)
        self.requests.append(received)
        self.received[received.cmd] += 1
        return received

    def carry_out(self, request: Request) -> SimulatedAnswer:
        """Do what is asked, or say why not."""
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
    """Say what is wrong with a picture; only its header is read, as fleets take thousands a second."""
    try:
        with Image.open(BytesIO(picture), formats=("JPEG",)) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "the photo is not a JPEG"
    if max(width, height) > MAXIMUM_PICTURE_SIDE:
        return f"the photo is larger than {MAXIMUM_PICTURE_SIDE}x{MAXIMUM_PICTURE_SIDE}"
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
