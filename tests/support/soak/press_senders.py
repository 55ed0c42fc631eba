"""The senders of presses: over MQTT and HTTP, well-behaved and broken."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Any

import aiohttp
import orjson

from tests.support.freezing_proxy import FreezingProxy
from tests.support.soak import mqtt_packets
from tests.support.soak.bridge import SoakBridge
from tests.support.soak.clock import now, time_of_day
from tests.support.soak.live_publisher import LivePublisher
from tests.support.soak.press_record import PressOnTerminal, PressRecord, SoakPress

_HTTP_SECONDS = 60.0
"""A request waits this long for its answer: longer than a frozen bridge needs."""


class PressSenders:
    """Sends presses of random kinds to random terminals.

    Args:
        random: the source of all choices.
        broker_port: the broker's port.
        bridge: for its port.
        groups: the terminals of each group.
        record: receives every press.
    """

    def __init__(
        self,
        random: Random,
        broker_port: int,
        bridge: SoakBridge,
        groups: dict[str, Sequence[str]],
        record: PressRecord,
    ) -> None:
        self._random = random
        self._broker_port = broker_port
        self._bridge = bridge
        self._groups = groups
        self._record = record
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._steady = LivePublisher("presses", broker_port)
        self._proxy = FreezingProxy(broker_port)
        self._held_up: LivePublisher

    @asynccontextmanager
    async def running(self) -> AsyncIterator["PressSenders"]:
        """Connect the senders."""
        async with self._proxy.running(), asyncio.TaskGroup() as group:
            self._held_up = LivePublisher("held-up", self._proxy.port)
            connections = [
                group.create_task(self._steady.run()),
                group.create_task(self._held_up.run()),
                group.create_task(self._hold_up()),
            ]
            try:
                yield self
            finally:
                for task in (*connections, *self._tasks):
                    task.cancel()

    async def send(self, per_second: float) -> None:
        """Send presses at random moments until cancelled."""
        while True:
            await asyncio.sleep(self._random.expovariate(per_second))
            self.send_one()

    def send_one(self, sn: str | None = None) -> None:
        """Send a press, to this terminal or to a random one."""
        random = self._random
        kinds = (
            (self._over_mqtt, 10),
            (self._over_http, 5),
            (self._held_up_press, 2),
            (self._sent_again, 3),
            (self._retained, 0.5),
            (self._with_qos_2, 0.5),
        )
        send = random.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        # Every choice is made here, because the tasks run in no fixed order.
        group = random.choice(list(self._groups)) if sn is None and random.random() < 0.12 else None
        members = self._groups[group] if group else [sn or random.choice(sorted(self._groups["all"]))]
        self._number += 1
        request_id = f"press {self._number}"
        command = "reboot" if random.random() < 0.1 else "open"
        press = SoakPress(request_id, send.__name__.strip("_"), now(), on={one: PressOnTerminal() for one in members})
        target = f"group/{group}" if group else f"terminal/{members[0]}"
        task = asyncio.get_running_loop().create_task(send(press, target, command, Random(random.random())))
        self._tasks.add(task)
        task.add_done_callback(self._sent)

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._record.faults.append(f"a sender fails: {task.exception()!r}")

    async def finish(self) -> None:
        """Wait for the senders that still wait for an answer."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=_HTTP_SECONDS)

    async def _over_mqtt(self, press: SoakPress, target: str, command: str, random: Random) -> None:
        dated = random.random() < 0.5
        if self._steady.is_connected:
            press.kind += " with asked_at" if dated else ""
            self._begin(press)
            self._steady.publish(_topic(target, command), _payload(press, dated=dated), random.choice((0, 1, 1)))

    async def _held_up_press(self, press: SoakPress, target: str, command: str, random: Random) -> None:
        """Send a press over a connection that stands still now and then; only `asked_at` dates it."""
        if self._held_up.is_connected:
            self._begin(press)
            self._held_up.publish(_topic(target, command), _payload(press, dated=True), random.choice((0, 1, 1)))

    async def _over_http(self, press: SoakPress, target: str, command: str, random: Random) -> None:
        path = target.replace("terminal", "terminals").replace("group", "groups")
        body = _fields(press, dated=random.random() < 0.5)
        self._begin(press)
        with suppress(aiohttp.ClientError, TimeoutError):
            timeout = aiohttp.ClientTimeout(total=_HTTP_SECONDS)
            url = f"{self._bridge.web_url}/api/{path}/{command}"
            async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, json=body) as response:
                answer: dict[str, Any] = await response.json()
                assert answer.get("request_id") == press.request_id, answer
                self._record.answered(press, answer)

    async def _sent_again(self, press: SoakPress, target: str, command: str, random: Random) -> None:
        """Send a press, reset the connection before the acknowledgement, and send the same press again."""
        payload = _payload(press, dated=True)
        press.sends = 2
        self._begin(press)
        for again in (False, True):
            with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with mqtt_packets.connection(self._broker_port, f"again {press.request_id}") as (_, writer):
                    packet = mqtt_packets.publish(_topic(target, command), payload, qos=1, packet_id=1, dup=again)
                    writer.write(packet)
                    await writer.drain()
                    await asyncio.sleep(random.uniform(0, 0.02))
                    writer.transport.abort()
            await asyncio.sleep(random.choice((random.uniform(0, 1), random.uniform(1, 9))))

    async def _retained(self, press: SoakPress, target: str, command: str, _random: Random) -> None:
        press.is_carried_out = False
        topic = _topic(target, command)
        if self._steady.is_connected:
            self._begin(press)
            self._steady.publish(topic, _payload(press, dated=False), 1, retain=True)
            await asyncio.sleep(10)
            self._steady.publish(topic, b"", 1, retain=True)

    async def _with_qos_2(self, press: SoakPress, target: str, command: str, random: Random) -> None:
        """Publish with QoS 2, and release the press some time later."""
        press.is_carried_out = False
        self._begin(press)
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with mqtt_packets.connection(self._broker_port, f"twice {press.request_id}") as (reader, writer):
                payload = _payload(press, dated=random.random() < 0.5)
                writer.write(mqtt_packets.publish(_topic(target, command), payload, qos=2, packet_id=1))
                await mqtt_packets.read_packet(reader)
                await asyncio.sleep(random.uniform(0, 9))
                writer.write(mqtt_packets.pubrel(1))
                await mqtt_packets.read_packet(reader)

    async def _hold_up(self) -> None:
        random = Random(self._random.random())
        while True:
            await asyncio.sleep(random.uniform(3, 10))
            self._proxy.freeze()
            await asyncio.sleep(random.uniform(0.2, 12))
            self._proxy.thaw()

    def _begin(self, press: SoakPress) -> None:
        press.asked = now()
        self._record.begin(press)


def _topic(target: str, command: str) -> str:
    return f"facebridge/{target}/{command}/set"


def _payload(press: SoakPress, *, dated: bool) -> bytes:
    return orjson.dumps(_fields(press, dated=dated))


def _fields(press: SoakPress, *, dated: bool) -> dict[str, object]:
    fields: dict[str, object] = {"request_id": press.request_id}
    if dated:
        fields["asked_at"] = time_of_day()
    return fields
