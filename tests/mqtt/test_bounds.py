"""What a flood can cost: nothing here grows beyond a bound, and who is turned away is told."""

from bridge.model.events import CommandReplied
from bridge.model.outcome import Outcome
from bridge.mqtt.client.connection import Message
from bridge.mqtt.live_commands import MAXIMUM_RUNNING
from bridge.mqtt.publisher import MAXIMUM_EVENTS_A_SECOND
from tests.support.core import collect
from tests.support.mqtt_bridge import Bridge

NO_BROKER = 1


def message(topic: str, payload: bytes, qos: int) -> Message:
    return Message(topic=f"facebridge/{topic}", payload=payload, qos=qos, retain=False, received_at=0.0)


async def test_presses_under_way_are_bounded() -> None:
    bridge = Bridge(NO_BROKER, "5")
    told = collect(bridge.events, CommandReplied)
    for _ in range(MAXIMUM_RUNNING):
        bridge.face._live_received(message("terminal/T1/open/set", b"PRESS", 1))
    assert told == []
    assert bridge.face.statistics().presses_running == MAXIMUM_RUNNING
    bridge.face._live_received(message("terminal/T1/open/set", b'{"request_id": "r"}', 1))
    assert [(event.reply.outcome, event.reply.request_id) for event in told if isinstance(event, CommandReplied)] == [
        (Outcome.UNAVAILABLE, "r")
    ]
    await bridge.face._live_commands.stop(5)
    assert bridge.face.statistics().presses_running == 0


async def test_a_bridge_that_stops_takes_no_more_presses() -> None:
    bridge = Bridge(NO_BROKER, "5")
    told = collect(bridge.events, CommandReplied)
    await bridge.face._live_commands.stop(0)
    bridge.face._live_received(message("terminal/T1/open/set", b"PRESS", 1))
    assert [event.reply.outcome for event in told if isinstance(event, CommandReplied)] == [Outcome.UNAVAILABLE]


async def test_what_waits_unassured_is_bounded_and_what_is_assured_waits() -> None:
    bridge = Bridge(NO_BROKER, "5")
    told = collect(bridge.events, CommandReplied)
    payload = b'"' + b"x" * 15_000_000 + b'"'
    for _ in range(20):
        bridge.face._intake_received(message("terminal/T1/person/set", payload, 0))
    waiting = bridge.face.statistics()
    assert waiting.intake_waiting_bytes <= 256 * 1024 * 1024
    assert waiting.intake_waiting + len(told) == 20
    assert {event.reply.outcome for event in told if isinstance(event, CommandReplied)} == {Outcome.UNAVAILABLE}
    bridge.face._intake_received(message("terminal/T1/person/set", payload, 1))
    assert bridge.face.statistics().intake_waiting == waiting.intake_waiting + 1


async def test_an_oversize_payload_is_not_kept() -> None:
    bridge = Bridge(NO_BROKER, "5")
    bridge.face._intake_received(message("terminal/T1/person/set", b"x" * 20_000_000, 1))
    assert bridge.face.statistics().intake_waiting_bytes == 0


async def test_of_what_waits_only_the_unassured_outlives_the_connection() -> None:
    bridge = Bridge(NO_BROKER, "5")
    for qos in (1, 0, 1):
        bridge.face._intake_received(message("terminal/T1/person/set", b"{}", qos))
    bridge.face._intake_disconnected()
    assert bridge.face.statistics().intake_waiting == 1


async def test_events_of_a_second_are_bounded() -> None:
    published: list[bytes] = []

    class Counting:
        def publish_nowait(self, topic: str, payload: bytes, **_: object) -> None:
            published.append(payload)

    bridge = Bridge(NO_BROKER, "5")
    bridge.face._publisher._connection = Counting()  # type: ignore[assignment]  # all that an event needs
    for number in range(3 * MAXIMUM_EVENTS_A_SECOND):
        bridge.admission.refused(f"T{number}", "192.0.2.1", "wrong password")
    assert MAXIMUM_EVENTS_A_SECOND <= len(published) <= 2 * MAXIMUM_EVENTS_A_SECOND
