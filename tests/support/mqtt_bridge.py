"""The core and its MQTT adapter against a real broker, with a real outbox; terminals and persons are in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Literal

from bridge.config.settings import HomeAssistantSettings, MqttSettings
from bridge.core.admission import Admission, AdmissionServices
from bridge.core.bridge_warnings import BridgeWarnings
from bridge.core.clock import Clock
from bridge.core.event_bus import EventBus
from bridge.core.person_commands import PersonCommands
from bridge.core.ports import PersonCommand
from bridge.core.presses import Presses
from bridge.core.registry import TerminalRegistry
from bridge.core.replies import ReplyBuilder
from bridge.core.services import CoreServices
from bridge.model.commands import PersonChange, RemovePersons, SetPersons
from bridge.model.events import PersonsChanged
from bridge.model.faults import Fault, UnavailableError
from bridge.model.person import Person
from bridge.model.person_entry import DeliveryState, FinalReply, PersonEntry
from bridge.model.reply import Outcome, Reply
from bridge.model.secret import Secret
from bridge.model.terminal import PersonCounts, Terminal
from bridge.mqtt.adapter import MqttAdapter, MqttOptions
from bridge.mqtt.bridge_info import BridgeDescription
from bridge.persons.outbox import Outbox
from bridge.protocol.replies import TerminalReply
from bridge.store.database import Database
from bridge.store.person_queries import add_final_replies
from tests.support.core import RecordingConnection, msgids
from tests.support.terminals import InMemoryTerminals

Answer = Callable[[str], TerminalReply | None]


class InMemoryPersons:
    """Desired persons in a list: accepts every change with an id, or none while it is `full`.

    It recognises a command that arrives again by its digest.

    While `may_go_on` is not set, a change takes as long as one on a locked store. If `slow` is not empty, this holds
    only for changes of these terminals.
    """

    def __init__(self, clock: Clock) -> None:
        self.accepted: list[PersonCommand] = []
        self.batches: list[int] = []
        self.attempts = 0
        self.full = False
        self.sessions = 0
        self.defect: Exception | None = None
        self.attempted = asyncio.Event()
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.slow: set[str] = set()
        self.counted: dict[str, PersonCounts] = {}
        self._clock = clock
        self._changes: dict[str, PersonChange] = {}

    async def change(
        self,
        commands: Sequence[PersonCommand],
        publish: Callable[[PersonCommand, Sequence[Reply]], None] | None = None,
    ) -> Sequence[Sequence[Reply]]:
        self.attempts += 1
        self.attempted.set()
        if not self.slow or any(map(self.must_wait, commands)):
            await self.may_go_on.wait()
        if self.defect is not None and any(_id_of(command) == "defect" for command in commands):
            raise self.defect
        if not self.full:
            self.batches.append(len(commands))
        replies = [self._replies(command) for command in commands]
        if publish is not None:
            for command, one in zip(commands, replies, strict=True):
                publish(command, one)
        return replies

    def must_wait(self, command: PersonCommand) -> bool:
        return not self.slow.isdisjoint(command.sns)

    async def forget_deliveries(self) -> None:
        self.sessions += 1

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

    def group_size(self, group: str) -> int:
        return 0

    def group_sizes(self) -> dict[str, int]:
        return {}

    async def follow_groups(self, *sns: str) -> None:
        if self.full:
            raise UnavailableError("the store is full")

    async def forget(self, sn: str) -> None:
        if self.full:
            raise UnavailableError("the store is full")

    def _replies(self, command: PersonCommand) -> Sequence[Reply]:
        change = command.change
        persons: Sequence[object] = [{"id": None}]
        if isinstance(change, SetPersons):
            persons = change.persons
        elif isinstance(change, RemovePersons):
            persons = [{"id": person_id} for person_id in change.ids or (None,)]
        return [self._reply(command, sn, person) for sn in command.sns for person in persons]

    def _reply(self, command: PersonCommand, sn: str, person: object) -> Reply:
        builder = ReplyBuilder(command.name, command.change.request_id, sn, command.received_at, self._clock)
        if not isinstance(person, Mapping):
            return builder.invalid([Fault("", "must be an object")])
        if self.full:
            return builder.unavailable("the store is full", person_id=person["id"])
        if (
            command.message is not None
            and command.message.is_dated
            and self._changes.setdefault(command.message.digest, command.change) is not command.change
        ):
            return builder.reply(Outcome.OK, person_id=person["id"], is_repeated=True)
        self.accepted.append(command)
        return builder.reply(Outcome.ACCEPTED, person_id=person["id"])


def _id_of(command: PersonCommand) -> object:
    change = command.change
    person = change.persons[0] if isinstance(change, SetPersons) else None
    return person.get("id") if isinstance(person, Mapping) else None


class IdentityHasher:
    """Returns passwords unchanged."""

    async def hash(self, password: Secret) -> Secret:
        return password


def core_services(
    clock: Clock,
    events: EventBus,
    registry: TerminalRegistry,
    terminals: InMemoryTerminals,
    deadline: float = 5.0,
) -> CoreServices:
    """Return a core whose terminals and persons are in memory."""
    persons = InMemoryPersons(clock)
    services = AdmissionServices(terminals=terminals, persons=persons, hasher=IdentityHasher())
    return CoreServices(
        clock=clock,
        events=events,
        registry=registry,
        presses=Presses(registry, events, clock, msgids(), deadline),
        persons=PersonCommands(registry, events, clock, persons),
        desired_persons=persons,
        admission=Admission(registry, events, clock, services, admit="known"),
        warnings=BridgeWarnings(events, clock),
    )


class Bridge:
    """A bridge without the terminals' server. Its adapter and its outbox exist while it is `running`."""

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
        self.terminals = InMemoryTerminals()
        self.core = core_services(self.clock, self.events, self.registry, self.terminals, deadline)
        self.admission = self.core.admission
        assert isinstance(self.core.desired_persons, InMemoryPersons)
        self.persons = self.core.desired_persons
        self.options = MqttOptions(
            mqtt=MqttSettings(
                host="127.0.0.1",
                port=port,
                username=None,
                password=None,
                client_id=base_topic.replace("/", "-"),
                base_topic=base_topic,
                protocol=protocol,
                tls=None,
            ),
            homeassistant=HomeAssistantSettings(discovery=discovery, prefix="homeassistant", send_time=True),
            deadline=deadline,
            max_photo_bytes=10 * 1024 * 1024,
            client_suffix="5f1c",
        )
        self.description = BridgeDescription(version="1.2.3", page_url=page_url)
        self.core.warnings.set("broker", "the broker is embedded")
        self.store_file: Path
        self.outbox: Outbox
        self.adapter: MqttAdapter
        self._database: Database

    def connect(
        self, sn: str, answer: Answer = lambda msgid: TerminalReply(msgid, None, 0, "ok")
    ) -> RecordingConnection:
        connection = RecordingConnection(self.registry, sn, answer)
        self.registry.connected(connection)
        return connection

    def count(self, sn: str, **counts: int) -> None:
        self.persons.counted[sn] = PersonCounts(**counts)
        self.events.publish(PersonsChanged(at=self.clock.now(), sn=sn))

    async def store_final_replies(self, *final_replies: FinalReply) -> None:
        """Commit final replies; `outbox.load` announces them."""
        await self._database.write(add_final_replies, final_replies)

    async def open_store(self, folder: Path) -> Database:
        """Build the adapter on a store of its own, in this folder."""
        self.store_file = folder / "store.db"
        self._database = await Database.open(f"sqlite:///{self.store_file}", busy_timeout=0.1)
        self.outbox = Outbox(self._database)
        self.adapter = MqttAdapter(self.options, self.description, self.core, self.outbox, Random(1))
        return self._database


@asynccontextmanager
async def running(
    bridge: Bridge, *terminals: Terminal, final_replies: Sequence[FinalReply] = ()
) -> AsyncIterator[Bridge]:
    """Run a bridge that knows these terminals, and whose outbox contains these final replies."""
    await bridge.admission.load(terminals)
    with TemporaryDirectory() as folder:
        database = await bridge.open_store(Path(folder))
        try:
            await bridge.store_final_replies(*final_replies)
            await bridge.outbox.load()
            task = asyncio.get_running_loop().create_task(bridge.adapter.run())
            try:
                yield bridge
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
        finally:
            await database.close()
