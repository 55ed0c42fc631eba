"""What benchmarks share: a client as quick as the bridge's own connections, and how figures are shown."""

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
from bridge.mqtt.client.connection import ConnectionHandlers, Message, MqttConnection, SessionOptions

PATIENCE = 60.0
"""Seconds after which what takes milliseconds is not going to happen."""


def run(measurement: Coroutine[Any, Any, None]) -> None:
    """Run a measurement to its end, on the bridge's own kind of loop; SIGTERM and SIGINT end it in order, with 1."""
    told = asyncio.Event()

    async def until_told() -> None:
        task = asyncio.get_running_loop().create_task(measurement)

        def end() -> None:
            told.set()
            task.cancel()

        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, end)
        await task

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(until_told())
        except BaseException:
            # What was cut off in the middle complains in its own way.
            if told.is_set():
                sys.exit(1)
            raise


@asynccontextmanager
async def mqtt_client(
    port: int, name: str, topics: Sequence[str] = (), on_message: Callable[[Message], None] = lambda _: None
) -> AsyncIterator[MqttConnection]:
    """Connect to the broker and subscribe; as long as the block lasts."""
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
        async with asyncio.timeout(PATIENCE):
            await ready.wait()
        yield connection
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


class Rounds:
    """Publishes, and waits for what comes back: a command's last reply, or the message itself."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[None]] = {}

    def received(self, message: Message) -> None:
        """Take what the client is sent."""
        answer = orjson.loads(message.payload)
        outcome = answer.get("outcome", "ok")
        if outcome == "accepted":
            return
        waiting = self._waiting.pop(answer["request_id"], None)
        if waiting is not None and not waiting.done():
            if outcome == "ok":
                waiting.set_result(None)
            else:
                waiting.set_exception(RuntimeError(f"not ok: {answer}"))

    async def go(self, client: MqttConnection, topic: str, request_id: str, payload: bytes | None = None) -> None:
        """Publish a payload that holds the request id, and return once it has come back."""
        waiting = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        client.publish_nowait(topic, payload or orjson.dumps({"request_id": request_id}), qos=1)
        async with asyncio.timeout(PATIENCE):
            await waiting


def shown(name: str, times: Sequence[float]) -> float:
    """Print percentiles of some milliseconds; return the median."""
    times = sorted(times)
    middle = statistics.median(times)
    print(f"{name:<38} p50 {middle:7.3f} ms   p99 {times[int(len(times) * 0.99)]:7.3f} ms   n {len(times)}")
    return middle
