"""A persons' service with a real store, photos and registry; its connections record the frames."""

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Concatenate, ParamSpec, TypeVar

import orjson
from sqlalchemy import Connection as StoreConnection

from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.ports import PersonCommand
from bridge.core.registry import TerminalRegistry
from bridge.model.commands import PersonChange, RemovePersons, SetPersons, SyncPersons
from bridge.model.origin import Origin
from bridge.model.person_entry import FinalReply, Wanted
from bridge.model.reply import Outcome, Reply
from bridge.model.terminal import Terminal
from bridge.persons.delivery.worker import DeliveryTimes
from bridge.persons.preparation import PhotoPreparer
from bridge.persons.service import PersonOptions, PersonService
from bridge.persons.transaction_runner import PersonContext, TransactionRunner
from bridge.protocol.replies import TerminalReply
from bridge.protocol.requests import (
    RemovePersonRequest,
    Request,
    SetPersonRequest,
    decode_request,
)
from bridge.simulator.faces import sample_photo
from bridge.store.database import Database
from bridge.store.photos import PLAIN
from tests.support.core import ManualClock, RecordingConnection, known_terminal
from tests.support.waiting import until

PHOTO = base64.b64encode(sample_photo(1, (64, 80))).decode()
OTHER_PHOTO = base64.b64encode(sample_photo(2, (64, 80))).decode()

ORIGIN = Origin(source="test", response_topic="answers/here", correlation_data=b"\x007")

_MSGIDS = count(1)

_P = ParamSpec("_P")
_T = TypeVar("_T")


def person(person_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": person_id, "name": f"Name of {person_id}", "photo": PHOTO, **fields}


def answer_ok(msgid: str) -> TerminalReply | None:
    return TerminalReply(msgid, None, 0, "ok")


def silent(msgid: str) -> TerminalReply | None:
    return None


class PersonSystem:
    """The service and what it works with."""

    def __init__(
        self,
        database: Database,
        *,
        times: DeliveryTimes | None = None,
        clock: Clock | None = None,
        boot_id: str = "this boot",
        sns: Sequence[str] = ("T1", "T2"),
        terminals: Sequence[Terminal] | None = None,
        remove_expired: int | None = None,
        photos: PhotoPreparer | None = None,
    ) -> None:
        self.database = database
        self.clock = clock or ManualClock()
        self.events = EventBus()
        self.registry = TerminalRegistry(self.events, self.clock)
        for terminal in [known_terminal(sn) for sn in sns] if terminals is None else terminals:
            self.registry.put(terminal)
        self.photos = photos or PhotoPreparer(folders=(), max_bytes=1_000_000, size=None)
        self.transactions = TransactionRunner(
            PersonContext(database=database, cipher=PLAIN, events=self.events, clock=self.clock, boot_id=boot_id)
        )
        self.person_service = PersonService(
            self.registry,
            self.transactions,
            self.photos,
            PersonOptions(
                timezone=UTC, times=times or DeliveryTimes(store_retry=0.01), remove_expired_days=remove_expired
            ),
            new_msgid=lambda: f"m{next(_MSGIDS)}",
            random=Random(1).random,
        )

    async def read(
        self, query: Callable[Concatenate[StoreConnection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Return the result of a query."""
        return await self.database.read(query, *args, **kwargs)

    def connect(self, sn: str = "T1", answer: Callable[[str], TerminalReply | None] = answer_ok) -> RecordingConnection:
        connection = RecordingConnection(self.registry, sn, answer)
        self.registry.connected(connection)
        return connection

    async def change(self, *changes: PersonChange, sn: str = "T1", origin: Origin = ORIGIN) -> list[list[Reply]]:
        now = self.clock.boottime()
        requests = [PersonCommand(sns=(sn,), change=change, origin=origin, received_at=now) for change in changes]
        return [list(replies) for replies in await self.person_service.change(requests)]

    async def set(self, *persons: object, request_id: str | None = None, sn: str = "T1") -> list[Outcome]:
        (replies,) = await self.change(SetPersons(persons=persons, request_id=request_id), sn=sn)
        return [reply.outcome for reply in replies]

    async def remove(self, *ids: str, request_id: str | None = None, sn: str = "T1") -> list[Outcome]:
        (replies,) = await self.change(RemovePersons(ids=ids, request_id=request_id), sn=sn)
        return [reply.outcome for reply in replies]

    async def remove_everyone(self, request_id: str | None = None, sn: str = "T1") -> list[Outcome]:
        (replies,) = await self.change(RemovePersons(ids=None, request_id=request_id), sn=sn)
        return [reply.outcome for reply in replies]

    async def sync(self, request_id: str | None = None, *, clear: bool = False, sn: str = "T1") -> list[Outcome]:
        (replies,) = await self.change(SyncPersons(clear=clear, request_id=request_id), sn=sn)
        return [reply.outcome for reply in replies]

    async def final_replies(self, number: int) -> list[FinalReply]:
        """Take so many final replies out of the outbox, as published."""
        replies: list[FinalReply] = []
        while len(replies) < number:
            replies += await self.person_service.outbox.next_entries(number - len(replies))
        await self.person_service.outbox.published([entry.id for entry in replies])
        return replies

    async def final_outcomes(self, number: int) -> list[tuple[str | None, str | None, str]]:
        """Take so many final replies; return their request ids, person ids and outcomes."""
        return [
            (entry.reply.request_id, entry.reply.person_id, entry.reply.outcome.value)
            for entry in await self.final_replies(number)
        ]

    async def settled(self, sn: str = "T1") -> None:
        """Wait until nothing is pending."""
        await until(lambda: self.person_service.counts(sn).pending == 0)

    async def persons(self, sn: str, person_id: str | None = None) -> list[dict[str, Any]]:
        """Return `persons` of a reply."""
        shown: list[dict[str, Any]] = orjson.loads(orjson.dumps(await self.person_service.persons(sn, person_id)))
        return shown

    async def delivery(self, sn: str = "T1") -> dict[str, str]:
        return {
            person["id"]: person["delivery"] for person in await self.persons(sn) if person["wanted"] != Wanted.REMOVED
        }


@asynccontextmanager
async def person_system(
    place: Path | str, *, connected: Sequence[str] = (), **details: Any
) -> AsyncIterator[PersonSystem]:
    """Run a service on the store in a folder or at a URL.

    Args:
        place: of the store; it may exist already.
        connected: terminals that are connected before the service starts.
        details: arguments of `PersonSystem`.
    """
    url = f"sqlite:///{place}/store.db" if isinstance(place, Path) else place
    database = await Database.open(url, busy_timeout=0.2)
    system = PersonSystem(database, **details)
    for sn in connected:
        system.connect(sn)
    await system.person_service.start()
    try:
        yield system
    finally:
        system.photos.close()
        try:
            await system.person_service.stop()
        finally:
            await database.close()


def requests(connection: RecordingConnection) -> list[Request]:
    return [decode_request(frame) for frame in connection.frames]


def sent(connection: RecordingConnection) -> list[str]:
    """Return the requests that were sent, as `set p1`, `remove p1`, `remove everyone`."""
    return [_abbreviated(request) for request in requests(connection)]


def _abbreviated(request: Request) -> str:
    if isinstance(request, SetPersonRequest):
        return f"set {request.person.id}"
    if isinstance(request, RemovePersonRequest):
        return f"remove {','.join(request.ids) or 'everyone'}"
    return type(request).__name__
