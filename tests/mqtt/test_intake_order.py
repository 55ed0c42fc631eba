"""The order of the intake: kept for each terminal and in the acknowledgements; other terminals do not wait."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from random import Random
from typing import Any

import orjson
import pytest

from bridge.core.replies import ReplyDispatcher
from bridge.model.received_message import ReceivedMessage
from bridge.mqtt.client.connection import Message
from bridge.mqtt.command_reader import CommandReader
from bridge.mqtt.intake import Intake, intake_rules
from bridge.mqtt.intake_queue import Batch, BatchKind, IntakeQueue, QueuedMessage
from bridge.mqtt.topics import Topics
from tests.support.core import known_terminal
from tests.support.mqtt_bridge import Bridge
from tests.support.waiting import until

GROUPS = {"T1": ("lobby",), "T2": ("lobby", "east"), "T3": ("east",), "T4": ()}
TOPICS = Topics("facebridge")

SLOW = {"id": "1", "photo": "AAAA"}
QUICK = {"id": "1", "name": "Ada"}


class Harness:
    """An intake without a broker; its acknowledgements are recorded by packet id."""

    def __init__(self) -> None:
        self.bridge = Bridge(1, "5")
        for sn, groups in GROUPS.items():
            self.bridge.registry.put(known_terminal(sn, groups=groups))
        rules = intake_rules(self.bridge.options.max_photo_bytes)
        dispatcher = ReplyDispatcher(self.bridge.events, self.bridge.clock)
        self.reader = CommandReader(TOPICS, dispatcher, rules, urgent=False)
        self.acknowledged: list[int] = []
        self.intake = Intake(
            self.reader, self.bridge.core.persons, self.bridge.admission, self._acknowledge, _no_wait, Random(1)
        )
        self.queue = IntakeQueue(self.bridge.core.persons)
        self._packet_ids = count(1)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(self.intake.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def receive(self, topic: str, payload: object, **details: Any) -> Message:
        """Let a message arrive at the intake."""
        message = self.message(topic, payload, **details)
        self.intake.received(message)
        return message

    def add(self, topic: str, payload: Mapping[str, Any]) -> QueuedMessage:
        """Put a message into the queue as the intake does."""
        message = self.message(topic, payload)
        context = self.reader.context(message)
        assert context is not None
        queued = QueuedMessage(message, context, len(message.payload), connection=0)
        self.queue.append(queued)
        for unread in self.queue.unread():
            unread.command = self.reader.read(unread.message, unread.context, unread.payload_bytes)
            unread.is_read = True
            assert unread.command is not None
            unread.received = ReceivedMessage(digest="x")
        return queued

    def message(self, topic: str, payload: object, **details: Any) -> Message:
        packet_id = next(self._packet_ids)
        arguments: dict[str, Any] = {"qos": 1, "retain": False, "received_at": 0.0, "mid": packet_id, **details}
        return Message(topic=f"facebridge/{topic}", payload=orjson.dumps(payload), **arguments)

    def _acknowledge(self, message: Message) -> None:
        self.acknowledged.append(message.mid)


async def _no_wait() -> None:
    return None


@pytest.fixture
async def harness() -> Harness:
    return Harness()


def accepted(harness: Harness) -> list[str | None]:
    return [one.change.request_id for one in harness.bridge.persons.accepted]


def numbers(batches: list[Batch], messages: list[QueuedMessage]) -> list[list[int]]:
    return [[messages.index(queued) for queued in batch.messages] for batch in batches]


async def test_a_change_that_takes_long_holds_up_only_its_terminals(harness: Harness) -> None:
    """A picture takes long, or the change waits for one over HTTP for the same terminal."""
    persons = harness.bridge.persons
    persons.slow.add("T1")
    persons.may_go_on.clear()
    async with harness.running():
        harness.receive("terminal/T1/person/set", {**SLOW, "request_id": "slow"})
        harness.receive("terminal/T1/person/remove", {"id": "1", "request_id": "behind"})
        harness.receive("terminal/T4/person/set", {**QUICK, "request_id": "other"})
        harness.receive("group/lobby/person/set", {**QUICK, "request_id": "group with T1"})
        harness.receive("terminal/T2/person/set", {**QUICK, "request_id": "behind the group"})
        harness.receive("group/east/person/set", {**QUICK, "request_id": "overlapping group"})
        harness.receive("bridge/admit/set", {"sn": "T9", "request_id": "admission"})
        harness.receive("terminal/T9/person/set", {**QUICK, "request_id": "unknown until admitted"})
        harness.receive("terminal/T4/person/remove", {"id": "1", "request_id": "other again"})
        await until(lambda: len(persons.accepted) == 2)
        await asyncio.sleep(0)
        assert accepted(harness) == ["other", "other again"]
        assert harness.acknowledged == []
        persons.may_go_on.set()
        await until(lambda: len(harness.acknowledged) == 9)
        assert harness.acknowledged == list(range(1, 10))
        assert accepted(harness)[2:4] == ["slow", "behind"]
        order = accepted(harness)
        assert order.index("group with T1") < order.index("behind the group") < order.index("overlapping group")
        assert "unknown until admitted" in order


async def test_a_change_that_waits_for_one_over_http_holds_up_no_other(harness: Harness) -> None:
    persons = harness.bridge.persons
    persons.slow.add("T1")
    persons.may_go_on.clear()
    async with harness.running():
        for sn in ("T1", "T2", "T4"):
            harness.receive(f"terminal/{sn}/person/set", {**QUICK, "request_id": sn})
        await until(lambda: len(persons.accepted) == 2)
        assert accepted(harness) == ["T2", "T4"]
        persons.may_go_on.set()
        await until(lambda: harness.acknowledged == [1, 2, 3])


async def test_acknowledgements_wait_for_earlier_messages(harness: Harness) -> None:
    persons = harness.bridge.persons
    persons.slow.add("T1")
    persons.may_go_on.clear()
    async with harness.running():
        harness.receive("terminal/T2/person/set", QUICK)
        harness.receive("terminal/T1/person/set", SLOW)
        harness.receive("terminal/T2/person/set", [])
        harness.receive("terminal/T2/person/set", QUICK)
        await until(lambda: len(persons.accepted) == 2)
        await until(lambda: harness.acknowledged == [1])
        persons.may_go_on.set()
        await until(lambda: harness.acknowledged == [1, 2, 3, 4])


async def test_a_disconnection_drops_what_is_not_done_and_its_acknowledgements(harness: Harness) -> None:
    """The broker sends it all again; the change that is in progress ends before its copy is carried out."""
    persons = harness.bridge.persons
    persons.slow.add("T1")
    persons.may_go_on.clear()
    async with harness.running():
        harness.receive("terminal/T1/person/set", {**SLOW, "request_id": "slow"})
        await until(lambda: persons.attempts == 1)
        harness.receive("terminal/T1/person/set", {**SLOW, "request_id": "dropped"})
        harness.receive("terminal/T1/person/set", {**SLOW, "request_id": "QoS 0"}, qos=0)
        harness.receive("terminal/T2/person/set", {**QUICK, "request_id": "quick"})
        await until(lambda: accepted(harness) == ["quick"])
        harness.intake.disconnected()
        for name, sn in (("slow", "T1"), ("dropped", "T1"), ("quick", "T2")):
            harness.receive(f"terminal/{sn}/person/set", {**SLOW, "request_id": name}, dup=True)
        await until(lambda: accepted(harness) == ["quick", "quick"])
        assert harness.acknowledged == []
        persons.may_go_on.set()
        await until(lambda: len(harness.acknowledged) == 4)
        assert accepted(harness) == ["quick", "quick", "slow", "QoS 0", "slow", "dropped"]
        assert [number for number in harness.acknowledged if number > 4] == [5, 6, 7]
        assert not {1, 2, 4} & set(harness.acknowledged), "the copies of the earlier connection"


async def test_a_new_session_waits_for_the_changes_of_the_earlier_one(harness: Harness) -> None:
    """They store packet ids, which the new session uses again."""
    persons = harness.bridge.persons
    persons.may_go_on.clear()
    async with harness.running():
        harness.receive("terminal/T1/person/set", {**SLOW, "request_id": "earlier"})
        await until(lambda: persons.attempts == 1)
        harness.intake.disconnected()
        await harness.intake.session_began()
        harness.receive("terminal/T2/person/set", {**QUICK, "request_id": "new"})
        for _ in range(10):
            await asyncio.sleep(0)
        assert persons.sessions == 0
        persons.may_go_on.set()
        await until(lambda: accepted(harness) == ["earlier", "new"])
        assert persons.sessions == 1


async def test_a_change_that_cannot_be_accepted_holds_up_only_its_terminals(harness: Harness) -> None:
    bridge = harness.bridge
    bridge.terminals.full = True
    async with harness.running():
        harness.receive("bridge/admit/set", {"sn": "T9"})
        harness.receive("terminal/T9/person/set", {**QUICK, "request_id": "behind"})
        harness.receive("terminal/T1/person/set", {**QUICK, "request_id": "other"})
        await until(lambda: accepted(harness) == ["other"])
        assert harness.acknowledged == []
        bridge.terminals.full = False
        await until(lambda: harness.acknowledged == [1, 2, 3])
        assert accepted(harness) == ["other", "behind"]


async def test_messages_of_the_same_kind_share_a_batch(harness: Harness) -> None:
    messages = [
        harness.add(f"terminal/{sn}/person/set", payload)
        for sn, payload in (
            ("T1", QUICK), ("T2", SLOW), ("T3", QUICK), ("T2", QUICK), ("T1", SLOW), ("T3", QUICK), ("T2", SLOW),
        )
    ]  # fmt: skip
    batches = list(harness.queue.next_batches(may_retry=True))
    assert numbers(batches, messages) == [[0, 2, 5], [1, 3, 6]]
    assert harness.queue.next_batches(may_retry=True) == []


async def test_what_is_carried_out_at_once_is_bounded(harness: Harness) -> None:
    for number in range(20):
        harness.bridge.registry.put(known_terminal(f"P{number}"))
        for _ in range(150):
            harness.add(f"terminal/P{number}/person/set", SLOW)
    for _ in range(5):
        harness.add("terminal/P0/person/get", {})
    batches = harness.queue.next_batches(may_retry=True)
    assert len(batches) <= 4
    assert all(len(batch.messages) <= 100 for batch in batches)
    assert sum(len(batch.messages) for batch in batches) <= 200


TOPICS_AND_PAYLOADS: list[tuple[str, Mapping[str, Any]]] = [
    *((f"terminal/{sn}/person/set", payload) for sn in GROUPS for payload in (QUICK, SLOW)),
    *((f"terminal/{sn}/person/get", {}) for sn in ("T1", "T4")),
    *((f"group/{group}/person/set", payload) for group in ("lobby", "east", "all") for payload in (QUICK, SLOW)),
    *((f"bridge/{command}/set", {"sn": sn}) for command in ("admit", "forget") for sn in ("T1", "T4")),
]


def conflicts(first: QueuedMessage, second: QueuedMessage) -> bool:
    """Return whether the order of two messages matters."""
    sns = [_sns(queued) for queued in (first, second)]
    has_group = first.group is not None or second.group is not None
    return bool(sns[0] & sns[1]) or (has_group and (first.changes_members or second.changes_members))


LIMITS = {BatchKind.QUICK: 1, BatchKind.SLOW: 4, BatchKind.SINGLE: 1}


def _kind(queued: QueuedMessage) -> BatchKind:
    if not queued.is_person_change:
        return BatchKind.SINGLE
    return BatchKind.SLOW if queued.has_slow_persons else BatchKind.QUICK


def _sns(queued: QueuedMessage) -> set[str]:
    if queued.terminal is not None:
        return {queued.terminal}
    return {sn for sn, groups in GROUPS.items() if queued.group in (*groups, "all")}


@pytest.mark.parametrize("seed", range(30))
async def test_random_messages_keep_the_order_that_matters(harness: Harness, seed: int) -> None:
    """Batches end in random order, and some cannot be accepted at first."""
    random = Random(seed)
    arrived: list[QueuedMessage] = []
    running: list[Batch] = []
    done: list[QueuedMessage] = []
    acknowledged: list[QueuedMessage] = []
    while len(acknowledged) < 60:
        if len(arrived) < 60 and random.random() < 0.7:
            arrived.append(harness.add(*random.choice(TOPICS_AND_PAYLOADS)))
        new = harness.queue.next_batches(may_retry=random.random() < 0.5)
        running += new
        for batch in new:
            for position, queued in enumerate(batch.messages):
                before = [*done, *batch.messages[:position]]
                earlier = [one for one in arrived[: arrived.index(queued)] if conflicts(one, queued)]
                assert all(one in before for one in earlier)
        waiting = [queued for queued in arrived if not queued.is_done and not queued.is_running]
        kinds = Counter(batch.kind for batch in running)
        for queued in waiting:
            unfinished = [one for one in arrived[: arrived.index(queued)] if not one.is_done]
            is_free = not queued.attempts and not any(conflicts(one, queued) for one in unfinished)
            assert not is_free or kinds[_kind(queued)] == LIMITS[_kind(queued)], "it waits for no reason"
        if running and random.random() < 0.6:
            batch = running.pop(random.randrange(len(running)))
            is_accepted = random.random() < 0.7
            for queued in batch.messages:
                if is_accepted:
                    harness.queue.done(queued)
                    done.append(queued)
                queued.attempts += not is_accepted
            harness.queue.end(batch)
        acknowledged += harness.queue.take_done()
    assert acknowledged == arrived
    assert harness.queue.payload_bytes == 0
