"""The hub's `Roster`: who should be on which terminal, never lost once it is accepted (promise 2)."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import tzinfo
from typing import Any

from bridge.core.clock import Clock
from bridge.core.commands import REMOVE_PERSONS, SET_PERSONS, SYNC_PERSONS
from bridge.core.event_bus import EventBus
from bridge.core.ports import PersonRequest
from bridge.core.registry import TerminalRegistry
from bridge.core.replies import ReplyBuilder
from bridge.core.tasks import BackgroundTasks
from bridge.model.commands import RemovePersons, SetPersons
from bridge.model.faults import UnavailableError
from bridge.model.outcome import Outcome
from bridge.model.person_entry import PersonEntry, RequestContext
from bridge.model.reply import Reply
from bridge.model.terminal import PersonCounts
from bridge.persons import changes
from bridge.persons.delivery.frames import FrameWriter
from bridge.persons.delivery.manager import DeliveryManager
from bridge.persons.delivery.recorder import AnswerRecorder
from bridge.persons.delivery.worker import DEFAULT_TIMES, DeliveryContext, DeliveryTimes
from bridge.persons.expiry import ExpiryJob
from bridge.persons.external_changes import ExternalChanges
from bridge.persons.fifo_gate import FifoGate
from bridge.persons.outbox import Outbox
from bridge.persons.pages import pages
from bridge.persons.photos.garbage_collection import PhotoGarbageCollector
from bridge.persons.photos.preparation import PhotoPreparer
from bridge.persons.ports import PersonStore
from bridge.persons.preparation import Preparation, PreparedPerson
from bridge.persons.transaction import BATCH, Transaction
from bridge.persons.transaction_runner import TransactionRunner

_NOTHING = PersonCounts()

_NOT_ASSURED = "stored; it came with QoS 0, which the broker may drop on the way: publish persons with QoS 1"


class PersonService:
    """Takes changes, and sees to it that they reach their terminals."""

    def __init__(
        self,
        registry: TerminalRegistry,
        events: EventBus,
        clock: Clock,
        store: PersonStore,
        outbox: Outbox,
        photos: PhotoPreparer,
        new_msgid: Callable[[], str],
        boot_id: str,
        timezone: tzinfo,
        random: Callable[[], float],
        times: DeliveryTimes = DEFAULT_TIMES,
        remove_expired: int | None = None,
    ) -> None:
        """Build the roster; nothing moves before `start`.

        Args:
            registry: of the terminals.
            events: told of counts and last words.
            clock: the time.
            store: where persons are kept.
            outbox: of the final replies.
            photos: puts pictures right.
            new_msgid: makes an id that was never used before.
            boot_id: what `read_boot_id` returns.
            timezone: of persons' times without an offset, the bridge's own.
            random: returns a number from 0 up to 1, for the jitter of repeats.
            times: how long to wait for terminals and store.
            remove_expired: days after `valid_until` that a person is removed everywhere; None for never.
        """
        self._clock = clock
        self._store = store
        self._boot_id = boot_id
        self._preparation = Preparation(photos, timezone)
        self._turns = FifoGate()
        self._commits = TransactionRunner(store, events, clock, boot_id)
        self._outbox = outbox
        self._commits.listen(self._outbox.committed)
        self._erasure = PhotoGarbageCollector(store)
        self._commits.listen(self._erasure.committed)
        self._outside = ExternalChanges(store, self._commits)
        self._expiry = (
            None if remove_expired is None else ExpiryJob(store, self._commits, events, clock, boot_id, remove_expired)
        )
        self._recorder = AnswerRecorder(self._commits, times.store_retry)
        self._tasks = BackgroundTasks()
        self._recorder_tasks = BackgroundTasks()
        self._recording: asyncio.Task[None] | None = None
        means = DeliveryContext(
            store=store,
            frames=FrameWriter(store),
            record=self._recorder.record,
            clock=clock,
            new_msgid=new_msgid,
            random=random,
            times=times,
        )
        self._delivery = DeliveryManager(registry, events, self._commits, means)

    @property
    def outbox(self) -> Outbox:
        """The last words that wait for the broker."""
        return self._outbox

    async def start(self) -> None:
        """Read what is there from before and go on with it. Raises UnavailableError."""
        await self._commits.load()
        await self._outbox.load()
        self._recording = self._recorder_tasks.start(self._recorder.run(), name="answer recorder")
        self._delivery.start()
        self._tasks.start(self._outside.run(), name="changes from outside")
        self._tasks.start(self._erasure.run(), name="erasure of photos")
        if self._expiry is not None:
            self._tasks.start(self._expiry.run(), name="removal of expired persons")

    async def stop(self) -> None:
        """Send nothing more, and store what the terminals have answered; the store may be closed then."""
        await self._tasks.stop()
        await self._delivery.stop()
        self._recorder.stop()
        if self._recording is not None:
            await asyncio.wait((self._recording,))
        await self._commits.stop()

    async def change(self, requests: Sequence[PersonRequest]) -> Sequence[Sequence[Reply]]:
        """Check the requests, apply them in their order in one transaction, and return once it is committed.

        Calls take effect in the order they were made.

        Returns:
            For each request its replies, one a person: `accepted`, `invalid` (that person is left as it was) or
            `unavailable` (nothing of any request was changed).
        """
        with self._turns.place() as turn:
            prepared = await self._preparation.prepare(
                [request.change for request in requests if isinstance(request.change, SetPersons)]
            )
            await turn()

            async def work(ledger: Transaction) -> list[list[Reply]]:
                return [await self._apply(ledger, request, prepared) for request in requests]

            try:
                return await self._commits.run(work)
            except UnavailableError as error:
                return [self._unavailable(request, prepared, str(error)) for request in requests]

    async def persons(self, sn: str, person_id: str | None = None) -> Sequence[Mapping[str, Any]]:
        """Return what a terminal should hold, without photos, as `persons` of a reply. Raises UnavailableError."""
        if person_id is not None:
            entry = await self._store.entry(sn, person_id)
            return _listed([entry] if entry is not None else [])
        persons: list[Mapping[str, Any]] = []
        async for entries in pages(self._store, sn, BATCH):
            persons += _listed(entries)
        return persons

    def counts(self, sn: str) -> PersonCounts:
        """Return how far a terminal is; all zero for one without persons."""
        return self._commits.counts.get(sn, _NOTHING)

    async def forget(self, sn: str) -> None:
        """Drop everything kept for a terminal. Raises UnavailableError."""
        with self._turns.place() as turn:
            await turn()
            await self._commits.run(lambda ledger: changes.forget(ledger, sn))

    async def _apply(
        self, ledger: Transaction, request: PersonRequest, prepared: Mapping[int, Sequence[PreparedPerson]]
    ) -> list[Reply]:
        change = request.change
        asked = self._asked(request)
        if isinstance(change, SetPersons):
            replies: list[Reply] = []
            async for results in changes.set_persons(ledger, request.sn, prepared[id(change)], self._kept(request)):
                replies += [
                    asked.invalid(result.faults, person_id=result.person_id)
                    if result.faults
                    else self._accepted(asked, request, result.person_id)
                    for result in results
                ]
            return replies
        if isinstance(change, RemovePersons):
            if change.ids is None:
                await changes.remove_everyone(ledger, request.sn, self._kept(request))
                return [self._accepted(asked, request, None)]
            ids = tuple(dict.fromkeys(change.ids))
            await changes.remove_persons(ledger, request.sn, ids, self._kept(request))
            return [self._accepted(asked, request, person_id) for person_id in ids]
        await changes.sync(ledger, request.sn, self._kept(request), clear=change.clear)
        return [self._accepted(asked, request, None)]

    def _unavailable(
        self, request: PersonRequest, prepared: Mapping[int, Sequence[PreparedPerson]], message: str
    ) -> list[Reply]:
        change = request.change
        person_ids: Sequence[str | None] = (None,)
        if isinstance(change, SetPersons):
            person_ids = [person.person_id for person in prepared[id(change)]]
        elif isinstance(change, RemovePersons) and change.ids is not None:
            person_ids = tuple(dict.fromkeys(change.ids))
        asked = self._asked(request)
        return [
            asked.reply(Outcome.UNAVAILABLE, person_id=person_id, message=message, delivered=False)
            for person_id in person_ids
        ]

    def _asked(self, request: PersonRequest) -> ReplyBuilder:
        return ReplyBuilder(_name(request), request.change.request_id, request.sn, request.received_at, self._clock)

    def _kept(self, request: PersonRequest) -> RequestContext:
        return RequestContext(
            command=_name(request),
            request_id=request.change.request_id,
            origin=request.origin,
            received_at=request.received_at,
            boot_id=self._boot_id,
        )

    def _accepted(self, asked: ReplyBuilder, request: PersonRequest, person_id: str | None) -> Reply:
        message = "stored" if request.origin.assured else _NOT_ASSURED
        return asked.reply(Outcome.ACCEPTED, person_id=person_id, message=message)


def _listed(entries: Sequence[PersonEntry]) -> list[Mapping[str, Any]]:
    """Return those who should be there, as a reply shows them; who is being removed should not."""
    return [entry.as_json() for entry in entries if entry.person is not None]


def _name(request: PersonRequest) -> str:
    if isinstance(request.change, SetPersons):
        return SET_PERSONS.name
    return (REMOVE_PERSONS if isinstance(request.change, RemovePersons) else SYNC_PERSONS).name
