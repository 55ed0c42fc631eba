"""Floods: every queue is bounded, and a sender whose command is not accepted gets a reply."""

from collections.abc import Sequence
from random import Random

from bridge.core.clock import Clock
from bridge.core.presses import MAXIMUM_WAITING
from bridge.core.repeated_presses import RepeatedPresses
from bridge.core.replies import ReplyDispatcher
from bridge.model.events import CommandReplied, Event
from bridge.model.reply import Outcome
from bridge.mqtt.client.connection import Message, MqttConnection, Publication
from bridge.mqtt.command_reader import CommandReader
from bridge.mqtt.intake import Intake, intake_rules
from bridge.mqtt.lease import Lease
from bridge.mqtt.live_commands import MAXIMUM_RUNNING, LiveCommands, press_rules
from bridge.mqtt.publisher import MAXIMUM_EVENTS_A_SECOND, Publisher
from bridge.mqtt.topics import Topics
from tests.support.core import RecordingConnection, collect, known_terminal
from tests.support.mqtt_bridge import Bridge

NO_BROKER = 1
TOPICS = Topics("facebridge")


def message(topic: str, payload: bytes, qos: int) -> Message:
    return Message(topic=f"facebridge/{topic}", payload=payload, qos=qos, retain=False, received_at=0.0)


def outcomes(replies: Sequence[Event]) -> list[Outcome]:
    return [event.reply.outcome for event in replies if isinstance(event, CommandReplied)]


class FreshLease(Lease):
    """A lease under which every press has been requested now."""

    def requested_at(self) -> float:
        return Clock().boottime()


def live_commands_of(bridge: Bridge) -> LiveCommands:
    reader = CommandReader(TOPICS, ReplyDispatcher(bridge.events, bridge.clock), press_rules("5"), urgent=True)
    lease = FreshLease(bridge.clock, 5.0, lambda: "nonce")
    return LiveCommands(reader, bridge.core.presses, lease, RepeatedPresses(bridge.clock))


def intake_of(bridge: Bridge) -> Intake:
    rules = intake_rules(bridge.options.max_photo_bytes)
    reader = CommandReader(TOPICS, ReplyDispatcher(bridge.events, bridge.clock), rules, urgent=False)

    async def published() -> None:
        return None

    return Intake(reader, bridge.core.persons, bridge.admission, lambda _: None, published, Random(1))


async def test_presses_in_progress_are_bounded() -> None:
    bridge = Bridge(NO_BROKER, "5")
    live_commands = live_commands_of(bridge)
    replies = collect(bridge.events, CommandReplied)
    connections = []
    for number in range(MAXIMUM_RUNNING):
        sn = f"T{number // MAXIMUM_WAITING}"
        if sn not in bridge.registry:
            bridge.registry.put(known_terminal(sn))
            connections.append(RecordingConnection(bridge.registry, sn, answer=lambda _: None))
            bridge.registry.connected(connections[-1])
        live_commands.received(message(f"terminal/{sn}/open/set", b"PRESS", 1))
    assert replies == []
    assert live_commands.running == MAXIMUM_RUNNING
    live_commands.received(message("terminal/T1/open/set", b'{"request_id": "r"}', 1))
    assert [
        (event.reply.outcome, event.reply.request_id) for event in replies if isinstance(event, CommandReplied)
    ] == [(Outcome.UNAVAILABLE, "r")]
    for connection in connections:
        bridge.registry.disconnected(connection, "gone")
    await live_commands.stop(5)
    assert live_commands.running == 0


async def test_a_stopping_bridge_accepts_no_more_presses() -> None:
    bridge = Bridge(NO_BROKER, "5")
    live_commands = live_commands_of(bridge)
    replies = collect(bridge.events, CommandReplied)
    await live_commands.stop(0)
    live_commands.received(message("terminal/T1/open/set", b"PRESS", 1))
    assert outcomes(replies) == [Outcome.UNAVAILABLE]


async def test_messages_of_qos_0_are_bounded_and_those_of_qos_1_wait() -> None:
    bridge = Bridge(NO_BROKER, "5")
    intake = intake_of(bridge)
    replies = collect(bridge.events, CommandReplied)
    payload = b'"' + b"x" * 15_000_000 + b'"'
    for _ in range(20):
        intake.received(message("terminal/T1/person/set", payload, 0))
    waiting = intake.waiting
    assert intake.waiting_bytes <= 256 * 1024 * 1024
    assert waiting + len(replies) == 20
    assert set(outcomes(replies)) == {Outcome.UNAVAILABLE}
    intake.received(message("terminal/T1/person/set", payload, 1))
    assert intake.waiting == waiting + 1


async def test_an_oversize_payload_is_not_kept() -> None:
    intake = intake_of(Bridge(NO_BROKER, "5"))
    intake.received(message("terminal/T1/person/set", b"x" * 20_000_000, 1))
    assert intake.waiting == 1
    assert intake.waiting_bytes == 0


async def test_only_messages_of_qos_0_stay_after_a_disconnection() -> None:
    intake = intake_of(Bridge(NO_BROKER, "5"))
    for qos in (1, 0, 1):
        intake.received(message("terminal/T1/person/set", b"{}", qos))
    intake.disconnected()
    assert intake.waiting == 1


async def test_events_per_second_are_bounded() -> None:
    published: list[Publication] = []

    class CountingConnection(MqttConnection):
        def __init__(self) -> None:
            """Connect to no broker."""

        def publish_nowait(self, publication: Publication, **_: object) -> None:
            published.append(publication)

    bridge = Bridge(NO_BROKER, "5")
    Publisher(TOPICS, CountingConnection(), bridge.events, bridge.clock)
    for number in range(3 * MAXIMUM_EVENTS_A_SECOND):
        bridge.admission.record_refusal(f"T{number}", "192.0.2.1", "wrong password")
    assert MAXIMUM_EVENTS_A_SECOND <= len(published) <= 2 * MAXIMUM_EVENTS_A_SECOND
