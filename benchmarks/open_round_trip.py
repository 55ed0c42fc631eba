"""An open over MQTT and back: publish, broker, bridge, terminal, bridge, broker, reply.

Run as `python -m benchmarks.open_round_trip [PRESSES]`. It starts a stock Mosquitto, the bridge as a process of its own
and a simulated terminal, presses one after the other, and compares with the same client's plain echo through the same
broker in the same run: what no bridge can be quicker than is two of those. 44 ms or more would mean that TCP_NODELAY or
TCP_QUICKACK does not work.
"""

import asyncio
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from time import perf_counter

import orjson

from bridge.config.settings import MqttSettings
from bridge.hub.clock import Clock
from bridge.mqtt.connection import Message, MqttConnection
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.mosquitto import Mosquitto

PRESSES = 1000


class Presser:
    """A client as quick as the bridge's own connections."""

    def __init__(self, port: int) -> None:
        self.ready = asyncio.Event()
        self._expected = b""
        self._arrived = asyncio.Event()
        settings = MqttSettings(
            host="127.0.0.1", port=port, username=None, password=None, client_id="benchmark",
            base_topic="facebridge", protocol="5", tls=None,
        )  # fmt: skip
        self.connection = MqttConnection(
            settings,
            client_id="benchmark",
            clock=Clock(),
            random=Random(1),
            persistent=False,
            will=None,
            on_message=self._received,
            on_connect=self._connected,
            on_disconnect=self.ready.clear,
        )

    async def open(self, number: int) -> None:
        """Press, and wait for the reply."""
        await self._round("facebridge/terminal/T1/open/set", b"press %d" % number)

    async def echo(self, number: int) -> None:
        """Publish, and wait for the message itself."""
        await self._round("benchmark/echo", b"echo %d" % number)

    async def _round(self, topic: str, mark: bytes) -> None:
        self._expected = mark
        self._arrived.clear()
        self.connection.publish_nowait(topic, orjson.dumps({"request_id": mark.decode()}), qos=1)
        await self._arrived.wait()

    async def _connected(self) -> None:
        await self.connection.subscribe(["facebridge/terminal/T1/reply", "benchmark/echo"])
        self.ready.set()

    def _received(self, message: Message) -> None:
        if self._expected in message.payload:
            assert b"offline" not in message.payload, message.payload
            self._arrived.set()


async def times_of(one: Callable[[int], Awaitable[None]], count: int) -> list[float]:
    """Return the milliseconds of each of `count` rounds, sorted."""
    times = []
    for number in range(count):
        began = perf_counter()
        await one(number)
        times.append((perf_counter() - began) * 1000)
    return sorted(times)


def shown(name: str, times: list[float]) -> float:
    """Print percentiles; return the median."""
    middle = statistics.median(times)
    print(f"{name:<28} p50 {middle:7.3f} ms   p99 {times[int(len(times) * 0.99)]:7.3f} ms   n {len(times)}")
    return middle


async def main(presses: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            Mosquitto(Path(folder)) as broker,
            BridgeProcess(Path(folder), configuration(broker.port)).running() as bridge,
            SimulatedTerminal(bridge.terminal_url, "T1").running() as terminal,
        ):
            await terminal.wait_connected()
            presser = Presser(broker.port)
            running = asyncio.get_running_loop().create_task(presser.connection.run())
            await presser.ready.wait()
            await times_of(presser.open, 100)
            echo = shown("echo through the broker", await times_of(presser.echo, presses))
            opened = shown("open, to the reply", await times_of(presser.open, presses))
            print(f"an open is {opened / echo:.1f} echoes")
            running.cancel()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else PRESSES))
