"""The retained topics: what they keep of their payloads."""

import asyncio
import tracemalloc
from typing import TYPE_CHECKING, cast

import orjson
import pytest

from bridge.mqtt.retained import RetainedTopics
from tests.support.mqtt_connection import Client, settings_for

if TYPE_CHECKING:
    from bridge.mqtt.client.connection import MqttConnection

TOPICS = 100


def retained_topics() -> RetainedTopics:
    return RetainedTopics(cast("MqttConnection", None))


@pytest.mark.parametrize("payload", [b"", b"online", b"x" * 1023, b"x" * 1024, bytes(range(256)) * 100])
def test_a_payload_comes_back_as_it_was(payload: bytes) -> None:
    retained = retained_topics()
    retained.want("topic", payload)
    assert retained.wanted("topic") == payload
    assert retained.unsent == 1
    retained.want("topic", bytes(memoryview(payload)))
    assert retained.unsent == 1
    assert retained.wanted("another") is None


@pytest.mark.parametrize(("length", "most_bytes"), [(300, 600), (4400, 1200)], ids=["state", "discovery"])
def test_a_kept_payload_takes_little_memory(length: int, most_bytes: int) -> None:
    retained = retained_topics()
    for number in range(TOPICS):
        retained.want(f"topic {number}", b"")
    tracemalloc.start()
    try:
        for number in range(TOPICS):
            # orjson's bytes are longer than their content.
            retained.want(f"topic {number}", orjson.dumps({"terminal": number, "state": "available " * (length // 10)}))
        each = tracemalloc.get_traced_memory()[0] / TOPICS
    finally:
        tracemalloc.stop()
    assert each < most_bytes


async def test_a_connection_that_has_just_ended_does_not_hold_up_the_event_loop() -> None:
    # It has no session, as one that has ended, and its owner does not know that yet.
    retained = RetainedTopics(Client(settings_for(1)).connection)
    retained.want("topic", b"online")
    retained.connected()
    publishing = asyncio.get_running_loop().create_task(retained.run())
    await asyncio.sleep(0)
    retained.want("another", b"online")
    for _ in range(3):
        await asyncio.sleep(0)
    assert retained.unsent == 2
    publishing.cancel()
