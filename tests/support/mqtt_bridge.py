"""The hub and its MQTT face against a real broker; terminals, roster and store are kept in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count
from random import Random
from typing import Any, Literal

from bridge.config.settings import HomeAssistantSettings, MqttSettings
from bridge.core.admission import Admission
from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.person_commands import PersonCommands
from bridge.core.ports import PersonRequest
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.core.replies import ReplyBuilder
from bridge.model.commands import RemovePersons, SetPersons
from bridge.model.events import PersonsChanged
from bridge.model.faults import Fault, UnavailableError
from bridge.model.origin import Origin
from bridge.model.outcome import Outcome
from bridge.model.person import Person
from bridge.model.person_entry import DeliveryState, FinalReply, PersonEntry
from bridge.model.reply import Reply
from bridge.model.secret import Secret
from bridge.model.terminal import PersonCounts, Terminal
from bridge.mqtt.adapter import CoreServices, MqttAdapter
from bridge.persons.outbox import Outbox
from bridge.protocol.replies import TerminalReply
from tests.support.core import WrittenConnection, msgids
from tests.support.terminals import KeptTerminals

Answer = Callable[[str], TerminalReply | None]


class KeptPersons:
    """The roster's port over a list: takes every change with an id, or none while it is `full`.

    While `may_go_on` is not set, a change takes as long as a store that is locked.
    """

    def __init__(self, clock: Clock) -> None:
        self.taken: list[PersonRequest] = []
        self.batches: list[int] = []
        self.attempts = 0
        self.full = False
        self.defect: Exception | None = None
        self.attempted = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.counted: dict[str, PersonCounts] = {}
        self._clock = clock

    async def change(self, requests: Sequence[PersonRequest]) -> Sequence[Sequence[Reply]]:
        self.attempts += 1
        self.attempted.set()
        await self.may_go_on.wait()
        if self.defect is not None and any(_id_of(request) == "defect" for request in requests):
            raise self.defect
        if not self.full:
            self.batches.append(len(requests))
        return [self._replies(request) for request in requests]

    async def persons(self, sn: str, person_id: str | None = None) -> Sequence[Mapping[str, Any]]:
        if self.full:
            raise UnavailableError("the store is full")
        person = Person(id=person_id or "1", name="Ada", photo="ab" * 32)
        return [
            PersonEntry(
                sn=sn,
                person_id=person.id,
                revision=1,
                person=person,
                delivery=DeliveryState.CONFIRMED,
                confirmed_revision=1,
                status=0,
                message="ok",
                changed_at=self._clock.now(),
            ).as_json()
        ]

    def counts(self, sn: str) -> PersonCounts:
        return self.counted.get(sn, PersonCounts())

    async def forget(self, sn: str) -> None:
        if self.full:
            raise UnavailableError("the store is full")

    def _replies(self, request: PersonRequest) -> Sequence[Reply]:
        change = request.change
        if isinstance(change, SetPersons):
            return [self._reply(request, "setPerson", person) for person in change.persons]
        if isinstance(change, RemovePersons):
            return [self._reply(request, "removePerson", {"id": person_id}) for person_id in change.ids or (None,)]
        return [self._reply(request, "syncPersons", {"id": None})]

    def _reply(self, request: PersonRequest, command: str, person: object) -> Reply:
        asked = ReplyBuilder(command, request.change.request_id, request.sn, request.received_at, self._clock)
        if not isinstance(person, Mapping):
            return asked.invalid([Fault("", "must be an object")])
        if self.full:
            return asked.reply(Outcome.UNAVAILABLE, message="the store is full", person_id=person["id"])
        self.taken.append(request)
        return asked.reply(Outcome.ACCEPTED, person_id=person["id"])


def _id_of(request: PersonRequest) -> object:
    change = request.change
    person = change.persons[0] if isinstance(change, SetPersons) else None
    return person.get("id") if isinstance(person, Mapping) else None


class KeptOutbox(Outbox):
    """The outbox's port over a list; nothing can be dropped while it is `full`."""

    def __init__(self) -> None:
        self.full = False
        self.attempts = 0
        self.entries: dict[int, FinalReply] = {}
        self._handed_out = 0
        self._grown = asyncio.Event()
        self._ids = count(1)
        self.emptied = asyncio.Event()

    def add(self, reply: Reply, origin: Origin) -> None:
        entry_id = next(self._ids)
        self.entries[entry_id] = FinalReply(id=entry_id, reply=reply, origin=origin)
        self.emptied.clear()
        self._grown.set()

    async def next_entries(self, limit: int) -> Sequence[FinalReply]:
        while True:
            found = [entry for entry_id, entry in self.entries.items() if entry_id > self._handed_out][:limit]
            if found:
                self._handed_out = found[-1].id
                return found
            self._grown.clear()
            await self._grown.wait()

    async def published(self, ids: Sequence[int]) -> None:
        self.attempts += 1
        if self.full:
            raise UnavailableError("the store is full")
        for entry_id in ids:
            self.entries.pop(entry_id, None)
        if not self.entries:
            self.emptied.set()

    def rewind(self) -> None:
        self._handed_out = 0
        self._grown.set()


class SameHasher:
    async def hash(self, password: Secret) -> Secret:
        return password


class Bridge:
    """A bridge without terminals' door and store."""

    def __init__(
        self,
        port: int,
        protocol: Literal["5", "3.1.1"],
        *,
        discovery: bool = True,
        deadline: float = 5.0,
        page_url: str | None = "http://bridge.example:8099",
        base_topic: str = "facebridge",
    ) -> None:
        self.clock = Clock()
        self.events = EventBus()
        self.registry = TerminalRegistry(self.events, self.clock)
        self.person_service = KeptPersons(self.clock)
        self.store = KeptTerminals()
        self.outbox = KeptOutbox()
        self.admission = Admission(
            self.registry, self.events, self.clock, self.store, self.person_service, SameHasher(), admit="known"
        )
        parts = CoreServices(
            registry=self.registry,
            presses=Presses(self.registry, self.events, self.clock, msgids(), deadline),
            persons=PersonCommands(self.registry, self.events, self.clock, self.person_service),
            admission=self.admission,
            person_service=self.person_service,
            outbox=self.outbox,
            events=self.events,
        )
        nonces = count(1)
        self.face = MqttAdapter(
            MqttSettings(
                host="127.0.0.1",
                port=port,
                username=None,
                password=None,
                client_id=base_topic.replace("/", "-"),
                base_topic=base_topic,
                protocol=protocol,
                tls=None,
            ),
            HomeAssistantSettings(discovery=discovery, prefix="homeassistant"),
            parts,
            self.clock,
            Random(1),
            lambda: f"nonce{next(nonces)}",
            deadline=deadline,
            maximum_photo_bytes=10 * 1024 * 1024,
            page_url=page_url,
            version="1.2.3",
            warnings=["the broker is embedded"],
        )

    def connect(self, sn: str, answer: Answer = lambda msgid: TerminalReply(msgid, None, 0, "ok")) -> WrittenConnection:
        connection = WrittenConnection(self.registry, sn, answer)
        self.registry.connected(connection)
        return connection

    def count(self, sn: str, **counts: int) -> None:
        self.person_service.counted[sn] = PersonCounts(**counts)
        self.events.publish(PersonsChanged(at=self.clock.now(), sn=sn))

    async def run(self) -> None:
        await self.face.run()


@asynccontextmanager
async def running(bridge: Bridge, *terminals: Terminal) -> AsyncIterator[Bridge]:
    """Run a bridge that knows these terminals."""
    await bridge.admission.load(terminals)
    task = asyncio.get_running_loop().create_task(bridge.run())
    try:
        yield bridge
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
