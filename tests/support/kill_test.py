"""Promise 2 under fire: person changes stream in while bridge, broker and terminals come and go."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from tests.support.faulty_terminals import FaultyTerminals
from tests.support.final_replies import LastWords
from tests.support.killable_bridge import KillableBridge, fixed_port_configuration
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import MqttClient, mqtt_client
from tests.support.person_stream import PersonStream, held
from tests.support.steady_client import SteadyListener, SteadyPublisher

SNS = ["T1", "T2", "T3", "T4"]
REFUSING = "T4"
"""The terminal that refuses now and then; what it has refused it is sent again by a sync at the end only."""

NOTHING_LOST = ("max_queued_messages 0",)
"""What a Mosquitto with `persistence` needs to lose nothing over a restart in order: by default it drops what comes
past the thousandth message that waits for somebody. It writes its memory down when it ends, so autosave is only for its
own sudden death, and makes that less bad but not safe: it acknowledges first and saves after. Of 2,500 acknowledged
messages 8 SIGKILLs of it lost 2 with `autosave_on_changes` and `autosave_interval 1`, and two thirds with the interval
alone. No test kills it: what it has lost no bridge can bring back."""

_AHEAD = 400
"""Changes that may be without a last word while more are made: a day of some hundred would be a busy one."""

_LONGEST_WAIT = 5.0
"""Seconds of life that a bridge has at most between two kills."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything.

    Attributes:
        kills: of the bridge.
        broker_restarts: in order, spread among the kills.
        rate: changes a second.
        persons: different ones.
        replies_a_life: how many replies a bridge gives at most before it is killed.
        end: seconds in which everything must have come to rest after the last kill.
    """

    kills: int
    broker_restarts: int
    rate: float
    persons: int
    replies_a_life: int
    end: float


@dataclass(slots=True)
class Counts:
    """What happened, for the log of a run."""

    changes: int = 0
    person_changes: int = 0
    kills: int = 0
    broker_restarts: int = 0
    connections: int = 0
    replies: int = 0
    lost: int = 0

    def __str__(self) -> str:
        return (
            f"{self.lost} of {self.changes} changes ({self.person_changes} on one person of one terminal) lost over "
            f"{self.kills} kills of the bridge, {self.broker_restarts} restarts of the broker and {self.connections} "
            f"connections of terminals; {self.replies} replies heard"
        )


class KillTest:
    """One run of it.

    Args:
        folder: for the bridge and the broker.
        store_url: where the bridge keeps persons; relative to `folder`.
        scale: how much.
        seed: of all dice.
    """

    def __init__(self, folder: Path, store_url: str, scale: Scale, seed: int) -> None:
        self.counts = Counts()
        self._folder = folder
        self._store_url = store_url
        self._scale = scale
        # Dice of their own: which changes come must not depend on who was quicker.
        self._kill_dice, self._pace_dice, self._terminal_dice = (Random(f"{seed} {n}") for n in range(3))
        self._stream = PersonStream(Random(seed), SNS, scale.persons)
        self._words = LastWords()
        self._killed = asyncio.Event()

    async def run(self) -> list[str]:
        """Do it; return what is wrong at the end, nothing where all is well."""
        broker_folder = self._folder / "broker"
        broker_folder.mkdir()
        async with Mosquitto(broker_folder, NOTHING_LOST, persistent=True) as broker:
            bridge = KillableBridge(self._folder, fixed_port_configuration(broker.port, SNS, store_url=self._store_url))
            listener = SteadyListener(broker.port, "facebridge/terminal/+/reply", heard=self._words.heard)
            async with bridge.running(), listener.running(), SteadyPublisher(broker.port).running() as publisher:
                # Before the intake has ever subscribed no broker keeps anything for it.
                async with mqtt_client(broker.port, "facebridge/#") as client:
                    await client.wait_for("facebridge/bridge/availability", lambda one: one.payload == b"online")
                terminals = FaultyTerminals(bridge.terminal_url, SNS, self._terminal_dice, refusing=[REFUSING])
                async with terminals.running():
                    async with asyncio.TaskGroup() as group:
                        publishing = group.create_task(self._publish(publisher))
                        await self._kill_over_and_over(bridge, broker)
                        self._killed.set()
                        await publishing
                    terminals.calm()
                    faults = await self._come_to_rest(terminals, broker.port)
                    self.counts.lost = len(faults)
                    self.counts.connections = sum(one.connections for one in terminals.terminals.values())
                await bridge.stop()
                if "Traceback" in bridge.full_log:
                    start = bridge.full_log.index("Traceback")
                    faults.append(f"the log holds a traceback: {bridge.full_log[max(0, start - 500) : start + 3000]}")
            self.counts.kills = bridge.kills
        self.counts.replies = self._words.replies
        return faults

    async def _publish(self, publisher: SteadyPublisher) -> None:
        """Ask for one change after the other; return once the broker has acknowledged all of them."""
        acknowledged: list[asyncio.Future[None]] = []
        while not self._killed.is_set():
            change = self._stream.next()
            self._words.expect(change)
            self.counts.changes += 1
            self.counts.person_changes += len(change.concerns)
            acknowledged.append(publisher.publish(change.topic, change.payload))
            await asyncio.sleep(self._pace_dice.expovariate(self._scale.rate))
            while len(self._words.owed) > _AHEAD and not self._killed.is_set():
                await asyncio.sleep(0.1)
        await asyncio.gather(*acknowledged)

    async def _kill_over_and_over(self, bridge: KillableBridge, broker: Mosquitto) -> None:
        dice, scale = self._kill_dice, self._scale
        restarts = set(dice.sample(range(scale.kills), scale.broker_restarts))
        for number in range(scale.kills):
            await self._wait_replies(dice.randrange(1, scale.replies_a_life))
            # Some moments more, so that it dies in the middle of something and not just after a reply.
            await asyncio.sleep(dice.uniform(0, 0.05))
            restart_before = dice.random() < 0.5
            if number in restarts and restart_before:
                await self._restart(broker)
                await asyncio.sleep(dice.uniform(0, 0.5))
            await bridge.kill()
            if number in restarts and not restart_before:
                await self._restart(broker)
            if dice.random() < 0.15:
                await bridge.start_and_kill(after_seconds=dice.uniform(0.1, 2))
            await bridge.start()

    async def _restart(self, broker: Mosquitto) -> None:
        await broker.restart()
        self.counts.broker_restarts += 1

    async def _wait_replies(self, number: int) -> None:
        goal = self._words.replies + number
        try:
            async with asyncio.timeout(_LONGEST_WAIT):
                while self._words.replies < goal:
                    await self._words.wait_more()
        except TimeoutError:
            return

    async def _come_to_rest(self, terminals: FaultyTerminals, port: int) -> list[str]:
        """Wait until nobody is owed anything, and return what is not as it was asked for."""
        async with mqtt_client(port, "facebridge/terminal/+/state", "facebridge/terminal/+/reply") as client:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._scale.end):
                    await self._words.wait_nothing_owed()
            faults = [
                f"no last word on {request_id} for {person_id} on {sn}"
                for request_id, owed in self._words.owed.items()
                for sn, person_id in owed
            ]
            if faults:
                return faults
            await self._sync_refused(client)
            for sn, terminal in terminals.terminals.items():
                faults += self._differences(sn, {person.id: held(person) for person in terminal.persons.values()})
                faults += await self._told_wrongly(client, sn)
        return faults

    async def _sync_refused(self, client: MqttClient) -> None:
        topic, request_id = f"facebridge/terminal/{REFUSING}", "the refused ones"
        await client.publish(f"{topic}/person/sync", {"request_id": request_id})
        await client.wait_for(
            f"{topic}/reply",
            lambda one: (one.json["request_id"], one.json["outcome"]) == (request_id, "ok"),
            within=self._scale.end,
        )

    def _differences(self, sn: str, found: dict[str, tuple[str, str, bool, str]]) -> list[str]:
        wanted = {person_id: person.held for person_id, person in self._stream.wanted[sn].items() if person.enabled}
        return [
            f"{sn} holds of {person_id} {found.get(person_id)}, wanted is {wanted.get(person_id)}"
            for person_id in sorted(wanted.keys() | found.keys())
            if wanted.get(person_id) != found.get(person_id)
        ]

    async def _told_wrongly(self, client: MqttClient, sn: str) -> list[str]:
        """Compare what the bridge says of a terminal's persons with what was asked for."""
        wanted = self._stream.wanted[sn]
        await client.publish(f"facebridge/terminal/{sn}/person/get", {"request_id": f"all of {sn}"})
        reply = await client.wait_for(
            f"facebridge/terminal/{sn}/reply", lambda one: one.json["request_id"] == f"all of {sn}"
        )
        told = {
            person["id"]: (person["name"], person["enabled"], person["delivery"]) for person in reply.json["persons"]
        }
        expected = {person_id: (one.name, one.enabled, "confirmed") for person_id, one in wanted.items()}
        faults = [
            f"{sn} is said to have of {person_id} {told.get(person_id)}, wanted is {expected.get(person_id)}"
            for person_id in sorted(told.keys() | expected.keys())
            if told.get(person_id) != expected.get(person_id)
        ]
        number = sum(one.enabled for one in wanted.values())
        counts: dict[str, Any] = {"desired": number, "confirmed": number, "pending": 0, "refused": 0}
        try:
            await client.wait_for(f"facebridge/terminal/{sn}/state", lambda one: one.json["persons"] == counts)
        except AssertionError:
            states = [one.json["persons"] for one in client.heard if one.topic == f"facebridge/terminal/{sn}/state"]
            faults.append(f"{sn} is counted as {states[-1:]}, right is {counts}")
        return faults
