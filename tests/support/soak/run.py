"""One soak: presses and person changes under random faults, and the comparison at its end."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import orjson

from tests.support.bridge_process import configuration
from tests.support.facebridge import facebridge_process
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import MqttClient, mqtt_client
from tests.support.person_stream import PersonStream
from tests.support.ports import free_port
from tests.support.soak.bridge import SoakBridge
from tests.support.soak.change_publisher import ChangePublisher
from tests.support.soak.clock import DEADLINE_SECONDS
from tests.support.soak.faults import REFUSING, Faults, FaultyParts
from tests.support.soak.mixed_changes import MixedChanges
from tests.support.soak.mqtt_link import PUBACK, PUBLISH, LinkPacket, MqttLink
from tests.support.soak.press_record import PressRecord
from tests.support.soak.press_senders import PressSenders
from tests.support.soak.replies import ChangeReplies
from tests.support.soak.terminals import TerminalHost
from tests.support.steady_client import SteadyListener

_GROUPS = {"lobby": ("T1", "T2"), "hall": ("T3", "T4"), "office": ("T5", "T6")}
_SNS = tuple(sn for members in _GROUPS.values() for sn in members)
_MIXED = _GROUPS["office"]

_BROKER_OPTIONS = ("max_queued_messages 0",)
"""By default Mosquitto drops messages beyond the thousandth that waits for a client."""

_PRESSES_PER_SECOND = 5.0
_CHANGES_PER_SECOND = 4.0
_PERSONS = 12
_MAX_UNFINISHED_CHANGES = 300
"""A stream publishes no more changes while this many have no final reply."""

_CHECK_SECONDS = 5.0

_LAST_REPLIES_SECONDS = 5.0

_VERIFY_ATTEMPTS = 30
"""Each takes two seconds. A change without an answer is sent again after 20 s."""

SETTLE_SECONDS = 120.0
"""After the last fault, every change must be accepted and have its final reply within this time."""


class SoakRun:
    """A soak.

    Args:
        folder: for the files of bridge and broker.
        seed: of all random choices.
        seconds: for how long faults happen.
    """

    def __init__(self, folder: Path, seed: int, seconds: float) -> None:
        self._folder = folder
        self._seed = seed
        self._seconds = seconds
        self._replies = ChangeReplies()
        self._broker_kills = 0
        self._ended = asyncio.Event()
        self._faults: list[str] = []
        self._unacknowledged: dict[tuple[int, int], str] = {}
        self._streams = {
            "lobby": PersonStream(self._random("lobby"), _GROUPS["lobby"], _PERSONS, group="lobby", prefix="lobby "),
            "hall": PersonStream(self._random("hall"), _GROUPS["hall"], _PERSONS, group="hall", prefix="hall "),
        }
        self._publishers: dict[str, ChangePublisher] = {}
        self._mixed: dict[str, MixedChanges] = {}
        self._record: PressRecord
        self._counted: Faults
        self._bridge: SoakBridge
        self._broker: Mosquitto

    def _random(self, name: str) -> Random:
        return Random(f"{self._seed} {name}")

    @property
    def figures(self) -> str:
        """One line that says what happened."""
        record, replies = self._record, self._replies
        imports = sum(mixed.from_command_line for mixed in self._mixed.values())
        return (
            f"presses {sum(record.kinds.values())} {dict(record.kinds)}, outcomes {dict(record.outcomes)}, "
            f"without a reply {record.unanswered.total()} {dict(record.unanswered)}, carried out {record.carried_out}, "
            f"latest age {record.latest_seconds:.2f} s of {DEADLINE_SECONDS:g} s, "
            f"read later by a stopped terminal {record.hung}, "
            f"late as documented {record.double_faults}; "
            f"person changes {replies.changes} ({imports} from the command line), "
            f"outcomes {dict(replies.outcomes)}; faults {dict(self._counted.counts)}; "
            f"late {record.late}, twice or with an untrue reply {len(record.faults) - record.late}, "
            f"lost {len(self._faults)}"
        )

    async def run(self) -> list[str]:
        """Run; return a description of each broken promise."""
        async with AsyncExitStack() as stack:
            terminals = await self._start(stack)
            senders = await stack.enter_async_context(
                PressSenders(
                    self._random("presses"),
                    self._broker.port,
                    self._bridge,
                    {**_GROUPS, "all": _SNS},
                    self._record,
                ).running()
            )
            self._senders = senders
            async with asyncio.TaskGroup() as group:
                checking = group.create_task(self._check_repeatedly())
                for name in self._streams:
                    group.create_task(self._publish(name))
                for mixed in self._mixed.values():
                    group.create_task(mixed.change_until(self._ended))
                pressing = group.create_task(senders.send(_PRESSES_PER_SECOND))
                async with self._counted.running():
                    await asyncio.sleep(self._seconds)
                    pressing.cancel()
                    self._ended.set()
                for terminal in terminals.values():
                    terminal.send(behaviour={})
                checking.cancel()
            await self._settle(terminals, senders)
            await self._bridge.stop()
            if self._bridge.tracebacks:
                self._faults.append(f"the log holds a traceback: {self._bridge.tracebacks[0][:5000]}")
        return self._record.faults + self._faults

    async def _start(self, stack: AsyncExitStack) -> dict[str, TerminalHost]:
        (self._folder / "broker").mkdir()
        self._broker = await stack.enter_async_context(
            Mosquitto(self._folder / "broker", _BROKER_OPTIONS, persistent=True)
        )
        link = await stack.enter_async_context(MqttLink(self._broker.port, self._forwarded).running())
        self._bridge = SoakBridge(self._folder, self._configuration(link.port), self._sending, self._replies.stored)
        self._record = PressRecord(self._bridge)
        terminals = {
            sn: TerminalHost(
                sn,
                is_slow=sn in _MIXED,
                carried_out=self._record.was_carried_out,
                arrived=self._record.arrived,
            )
            for sn in _SNS
        }
        self._record.terminals = terminals
        self._counted = Faults(
            self._random("faults"),
            FaultyParts(self._bridge, self._broker, link, list(terminals.values())),
            self._broker_was_killed,
        )
        await stack.enter_async_context(
            SteadyListener(
                self._broker.port, "facebridge/terminal/+/reply", "facebridge/group/+/reply", heard=self._heard
            ).running()
        )
        await stack.enter_async_context(self._bridge.running())
        # The broker keeps changes for the bridge only after its intake connection has subscribed once.
        async with mqtt_client(self._broker.port, "facebridge/#") as client:
            await client.wait_for("facebridge/bridge/availability", lambda one: one.payload == b"online")
        for terminal in terminals.values():
            await stack.enter_async_context(terminal.running(self._bridge.terminals_port))
        for name, is_dated in (("lobby", True), ("hall", False)):
            publisher = ChangePublisher(f"changes-{name}", self._broker.port, self._replies, is_dated=is_dated)
            self._publishers[name] = await stack.enter_async_context(publisher.running())
        for sn in _MIXED:
            self._mixed[sn] = await stack.enter_async_context(
                MixedChanges(
                    sn, self._random(sn), self._broker.port, self._folder, self._replies, self._press_behind_photo
                ).running()
            )
        return terminals

    def _configuration(self, mqtt_port: int) -> dict[str, Any]:
        known = {sn: {"groups": [name]} for name, members in _GROUPS.items() for sn in members}
        return configuration(
            mqtt_port,
            terminals={"host": "0.0.0.0", "port": free_port(), "known": known},
            store={"url": "sqlite:///facebridge.db"},
            homeassistant={"discovery": False},
            commands={"deadline": DEADLINE_SECONDS},
        )

    def _forwarded(self, packet: LinkPacket) -> None:
        self._record.forwarded(packet)
        self._note_acknowledgement(packet)
        if not packet.to_bridge and packet.topic:
            self._replies.published(packet.topic, packet.payload)

    def _note_acknowledgement(self, packet: LinkPacket) -> None:
        if packet.packet_id is None:
            return
        key = packet.connection, packet.packet_id
        if packet.to_bridge and packet.type == PUBLISH and "/person/" in packet.topic:
            self._unacknowledged[key] = orjson.loads(packet.payload)["request_id"]
        elif not packet.to_bridge and packet.type == PUBACK and key in self._unacknowledged:
            self._replies.acknowledged(self._unacknowledged.pop(key))

    def _sending(self, sn: str, msgid: str, request_id: str | None) -> None:
        self._record.sending(sn, msgid, request_id)

    def _heard(self, topic: str, payload: bytes) -> None:
        self._record.received(topic, payload)
        self._replies.received(topic, payload)

    def _broker_was_killed(self) -> None:
        self._broker_kills += 1
        for publisher in self._publishers.values():
            publisher.broker_was_killed()
        for mixed in self._mixed.values():
            mixed.lose()

    def _press_behind_photo(self, sn: str) -> None:
        loop = asyncio.get_running_loop()
        for delay in (0.0, 0.1, 0.4):
            loop.call_later(delay, lambda: None if self._ended.is_set() else self._senders.send_one(sn))

    async def _publish(self, name: str) -> None:
        random, stream, publisher = self._random(f"pace of {name}"), self._streams[name], self._publishers[name]
        while not self._ended.is_set():
            change = stream.next()
            self._replies.expect(change.request_id, change.concerns)
            publisher.publish(change)
            await asyncio.sleep(random.expovariate(_CHANGES_PER_SECOND / 2))
            while len(self._replies.missing) > _MAX_UNFINISHED_CHANGES and not self._ended.is_set():
                await asyncio.sleep(0.5)

    async def _check_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            self._record.check()

    async def _settle(self, terminals: dict[str, TerminalHost], senders: PressSenders) -> None:
        """Wait until everything is delivered, and compare."""
        await senders.finish()
        # At a new connection the bridge sends at once what was not answered.
        for terminal in terminals.values():
            terminal.send(disconnect="CLOSE")
        await self._replies.wait(lambda: not self._replies.never_received(), SETTLE_SECONDS)
        # What a killed broker has lost does not come.
        await self._replies.wait(lambda: not self._replies.missing, _LAST_REPLIES_SECONDS)
        self._record.check(everything=True)
        self._faults += [f"no final reply to {change}" for change in self._replies.never_received()]
        if not self._broker_kills:
            self._faults += [f"the final reply got lost: {change}" for change in self._replies.only_published()]
        self._faults += [f"unexpected reply: {reply}" for reply in self._replies.unexpected]
        async with mqtt_client(
            self._broker.port, "facebridge/terminal/+/state", "facebridge/terminal/+/reply"
        ) as client:
            for sn in REFUSING:
                await self._sync(client, sn)
            await self._verify()
            for sn, terminal in terminals.items():
                await self._compare(client, terminal, self._expected(sn))

    def _expected(self, sn: str) -> dict[str, Any]:
        if sn in self._mixed:
            return dict(self._mixed[sn].expected)
        return next(dict(stream.expected[sn]) for stream in self._streams.values() if sn in stream.expected)

    async def _verify(self) -> None:
        """Wait until the terminals have confirmed everything, changes of the command line too."""
        output = ""
        for _ in range(_VERIFY_ATTEMPTS):
            verified = await facebridge_process(self._folder, "persons", "verify", "-c", "config.yaml")
            if verified.code == 0:
                return
            output = verified.stdout + verified.stderr
            await asyncio.sleep(1)
        self._faults.append(f"verify: {output}")

    async def _sync(self, client: MqttClient, sn: str) -> None:
        topic, request_id = f"facebridge/terminal/{sn}", f"sync {sn}"
        await client.publish(f"{topic}/person/sync", {"request_id": request_id})
        await client.wait_for(
            f"{topic}/reply",
            lambda one: (one.json["request_id"], one.json["outcome"]) == (request_id, "ok"),
            within=SETTLE_SECONDS,
        )

    async def _compare(self, client: MqttClient, terminal: TerminalHost, persons: dict[str, Any]) -> None:
        """Compare what a terminal holds, and what the bridge lists, with what the newest changes say."""
        sn = terminal.sn
        report = await terminal.report()
        found = {person_id: tuple(values) for person_id, values in report["persons"].items()}
        expected = {person_id: one.held for person_id, one in persons.items() if one.enabled}
        self._faults += _differences(f"{sn} holds", expected, found)
        request_id = f"all of {sn}"
        await client.publish(f"facebridge/terminal/{sn}/person/get", {"request_id": request_id})
        reply = await client.wait_for(
            f"facebridge/terminal/{sn}/reply", lambda one: one.json["request_id"] == request_id
        )
        listed = {one["id"]: (one.get("name"), one.get("enabled"), one["delivery"]) for one in reply.json["persons"]}
        expected_list = {person_id: (one.name, one.enabled, "confirmed") for person_id, one in persons.items()}
        self._faults += _differences(f"the bridge lists on {sn}", expected_list, listed)


def _differences(what: str, expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return [
        f"{what} {person_id} as {found.get(person_id)}, expected {expected.get(person_id)}"
        for person_id in sorted(expected.keys() | found.keys())
        if expected.get(person_id) != found.get(person_id)
    ]
