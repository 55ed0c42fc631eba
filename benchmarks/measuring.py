"""Shared parts of the benchmarks: an MQTT client as quick as the bridge's own, request and reply, and percentiles."""

import asyncio
import signal
import statistics
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import orjson
import uvloop

from bridge.config.settings import MqttSettings
from bridge.core.clock import Clock
from bridge.mqtt.client.connection import ConnectionHandlers, Message, MqttConnection, Publication, SessionOptions

TIMEOUT_SECONDS = 60.0
"""Time after which a step that takes milliseconds has failed."""


def run(measurement: Coroutine[Any, Any, None]) -> None:
    """Run a measurement on the event loop that the bridge uses. On SIGTERM and SIGINT, clean up and exit with 1."""
    interrupted = asyncio.Event()

    async def until_done() -> None:
        task = asyncio.get_running_loop().create_task(measurement)

        def end() -> None:
            interrupted.set()
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end)
        await task

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(until_done())
        except BaseException:
            # An interrupted measurement raises various errors.
            if interrupted.is_set():
                sys.exit(1)
            raise


@asynccontextmanager
async def mqtt_client(
    port: int, name: str, topics: Sequence[str] = (), on_message: Callable[[Message], None] = lambda _: None
) -> AsyncIterator[MqttConnection]:
    """Connect to the broker and subscribe, as long as the block lasts."""
    ready = asyncio.Event()

    async def connected() -> None:
        if topics:
            await connection.subscribe(topics)
        ready.set()

    settings = MqttSettings(
        host="127.0.0.1", port=port, username=None, password=None, client_id=name,
        base_topic="facebridge", protocol="5", tls=None,
    )  # fmt: skip
    connection = MqttConnection(
        settings,
        SessionOptions(client_id=name),
        ConnectionHandlers(on_message=on_message, on_connect=connected, on_disconnect=ready.clear),
        Clock(),
        Random(1),
    )
    running = asyncio.get_running_loop().create_task(connection.run())
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await ready.wait()
        yield connection
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


class Rounds:
    """Publishes messages and waits for the response: the final reply to a command, or the message itself as an echo."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[None]] = {}

    def received(self, message: Message) -> None:
        """Handle a message for the client."""
        reply = orjson.loads(message.payload)
        outcome = reply.get("outcome", "ok")
        if outcome == "accepted":
            return
        waiting = self._waiting.pop(reply["request_id"], None)
        if waiting is not None and not waiting.done():
            if outcome == "ok":
                waiting.set_result(None)
            else:
                waiting.set_exception(RuntimeError(f"not ok: {reply}"))

    async def go(self, client: MqttConnection, topic: str, request_id: str, payload: bytes | None = None) -> None:
        """Publish a payload that contains the request id, and return when the response has come."""
        waiting = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        client.publish_nowait(Publication(topic, payload or orjson.dumps({"request_id": request_id})))
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await waiting


def shown(name: str, times: Sequence[float]) -> float:
    """Print percentiles of durations in milliseconds; return the median."""
    times = sorted(times)
    middle = statistics.median(times)
    print(f"{name:<38} p50 {middle:7.3f} ms   p99 {times[int(len(times) * 0.99)]:7.3f} ms   n {len(times)}")
    return middle
