"""Groups that keep persons, from the broker to the terminals: doors, devices, tenants, and a bridge that is killed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.bridge_system import PHOTO, query
from tests.support.killable_bridge import KillableBridge, fixed_port_configuration
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import Heard, MqttClient, mqtt_client
from tests.support.waiting import until

OPTIONS = ConnectionOptions(first_retry_seconds=0.05, max_retry_seconds=0.3)


def person(person_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": person_id, "name": f"Name of {person_id}", "photo": PHOTO, **fields}


class Building:
    """A bridge, a broker, a client, and terminals that connect when they are first named."""

    def __init__(self, bridge: KillableBridge, client: MqttClient, stack: AsyncExitStack) -> None:
        self.bridge = bridge
        self.client = client
        self._stack = stack
        self._terminals: dict[str, SimulatedTerminal] = {}
        self._numbers = count(1)

    async def terminal(self, sn: str) -> SimulatedTerminal:
        """Return a terminal, which runs from now on."""
        if sn not in self._terminals:
            terminal = SimulatedTerminal(self.bridge.terminal_url, sn, options=OPTIONS)
            self._terminals[sn] = await self._stack.enter_async_context(terminal.running())
        return self._terminals[sn]

    async def holds(self, sn: str, *person_ids: str) -> None:
        """Wait until a terminal holds exactly these persons."""
        terminal = await self.terminal(sn)
        try:
            await until(lambda: set(terminal.persons) == set(person_ids))
        except TimeoutError:
            raise AssertionError(f"{sn} holds {sorted(terminal.persons)}, not {sorted(person_ids)}") from None

    async def send(self, command: str, reply: str, **payload: Any) -> dict[str, Any]:
        """Send a command and return its first reply on that topic."""
        request_id = f"r{next(self._numbers)}"
        await self.client.publish(f"facebridge/{command}", {**payload, "request_id": request_id})
        received = await self.client.wait_for(
            f"facebridge/{reply}", lambda one: bool(one.json["request_id"] == request_id), within=30
        )
        answer: dict[str, Any] = received.json
        return answer

    async def set(self, group: str, *persons: dict[str, Any]) -> None:
        summary = await self.send(f"group/{group}/person/set", f"group/{group}/reply", persons=list(persons))
        assert summary["outcomes"] == {"accepted": summary["total"]}

    async def admit(self, sn: str, **details: Any) -> None:
        reply = await self.send("bridge/admit/set", "bridge/reply", sn=sn, **details)
        assert reply["outcome"] == "ok", reply

    async def access(self, sn: str) -> dict[str, list[str]]:
        """Return through what a terminal holds each person, as `person/get` says."""
        reply = await self.send(f"terminal/{sn}/person/get", f"terminal/{sn}/reply")
        return {one["id"]: one["access"] for one in reply["persons"]}

    async def restart(self, groups: dict[str, list[str]]) -> None:
        """Restart the bridge with other groups in its configuration."""
        await self.bridge.stop()
        configure(self.bridge.folder, groups)
        self.client.heard.clear()
        await self.bridge.start()
        await self.wait_online()

    async def wait_online(self) -> None:
        await self.client.wait_for("facebridge/bridge/availability", lambda one: one.payload == b"online", within=30)


def configure(folder: Path, groups: dict[str, list[str]]) -> None:
    """Write other groups into a configuration."""
    file = folder / "config.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["terminals"]["known"] = {sn: {"groups": names} for sn, names in groups.items()}
    file.write_text(yaml.safe_dump(settings))


@asynccontextmanager
async def building(folder: Path, groups: dict[str, list[str]]) -> AsyncIterator[Building]:
    """Start everything, with these terminals in the configuration; the bridge's log must hold no traceback."""
    (folder / "broker").mkdir()
    async with AsyncExitStack() as stack:
        broker = await stack.enter_async_context(Mosquitto(folder / "broker", persistent=True))
        settings = fixed_port_configuration(broker.port, [], store_url=f"sqlite:///{folder / 'store.db'}")
        settings["commands"]["deadline"] = 5
        bridge = KillableBridge(folder, settings)
        configure(folder, groups)
        client = await stack.enter_async_context(mqtt_client(broker.port, "facebridge/#"))
        await stack.enter_async_context(bridge.running())
        started = Building(bridge, client, stack)
        await started.wait_online()
        yield started
    assert "Traceback" not in bridge.full_log


def joined(person_id: str, message: str) -> Any:
    """Return a condition for the final reply of a change that a membership made."""

    def matches(heard: Heard) -> bool:
        reply = heard.json
        return (reply["person_id"], reply["outcome"], reply["message"]) == (person_id, "ok", message)

    return matches


@pytest.mark.timeout(180)
async def test_access_follows_doors_devices_and_tenants(tmp_path: Path) -> None:
    async with building(tmp_path, {"T1": ["staff"], "T2": []}) as house:
        await house.set("staff", person("ada"), person("bo"))
        await house.set("all", person("guard"))
        await house.holds("T1", "ada", "bo", "guard")
        await house.holds("T2", "guard")

        # A door is added to a group.
        await house.admit("T3", groups=["staff"])
        await house.holds("T3", "ada", "bo", "guard")
        await house.client.wait_for("facebridge/terminal/T3/reply", joined("ada", "joined group staff: ok"))
        assert await house.access("T3") == {"ada": ["staff"], "bo": ["staff"], "guard": ["all"]}

        # A new terminal is approved, and is in `all` from then on.
        await house.terminal("T4")
        await house.client.wait_for("facebridge/bridge/event", lambda one: one.json["type"] == "terminal_pending")
        await house.admit("T4")
        await house.holds("T4", "guard")
        assert await house.access("T4") == {"guard": ["all"]}

        # A door leaves a group. What was set on it stays.
        reply = await house.send("terminal/T3/person/set", "terminal/T3/reply", persons=[person("own")])
        assert reply["outcome"] == "accepted"
        await house.holds("T3", "ada", "bo", "guard", "own")
        await house.admit("T3", groups=[])
        await house.holds("T3", "guard", "own")
        await house.client.wait_for("facebridge/terminal/T3/reply", joined("bo", "left group staff: ok"))
        assert await house.access("T3") == {"guard": ["all"], "own": ["terminal"]}

        # A device is exchanged: the new one needs only the groups of the old one.
        reply = await house.send("bridge/forget/set", "bridge/reply", sn="T4")
        assert reply["outcome"] == "ok"
        await house.admit("T5", groups=["staff"])
        await house.holds("T5", "ada", "bo", "guard")

        # A tenant moves out.
        await house.send("group/staff/person/remove", "group/staff/reply", id="bo")
        await house.holds("T1", "ada", "guard")
        await house.holds("T5", "ada", "guard")


@pytest.mark.timeout(180)
async def test_another_configuration(tmp_path: Path) -> None:
    async with building(tmp_path, {"T1": ["staff"], "T2": []}) as house:
        await house.set("staff", person("ada"), person("bo"))
        await house.holds("T1", "ada", "bo")
        await house.holds("T2")
        await house.restart({"T1": [], "T2": ["staff"]})
        await house.holds("T1")
        await house.holds("T2", "ada", "bo")
        assert "T1 left staff" in house.bridge.log
        assert "T2 joined staff" in house.bridge.log

        await house.restart({"T1": [], "T2": []})
        await house.holds("T2")
        assert "group staff keeps 2 persons and has no members" in house.bridge.log
        reply = await house.send("group/staff/person/set", "group/staff/reply", persons=[person("cy")])
        assert (reply["outcome"], reply["group"]) == ("invalid", "staff")
        summary = await house.send("group/staff/person/remove", "group/staff/reply", id="bo")
        assert (summary["total"], summary["outcomes"]) == (0, {})
        records = 'SELECT command, sn, "group", person_id, outcome FROM audit WHERE "group" = \'staff\' AND sn IS NULL'
        expected = ("removePerson", None, "staff", "bo", "accepted")
        await until_query(tmp_path / "store.db", f"{records} AND outcome = 'accepted'", [expected])
        reply = await house.send("group/unknown/person/remove", "group/unknown/reply", id="bo")
        assert reply["outcome"] == "invalid"

        await house.restart({"T1": ["staff"], "T2": []})
        await house.holds("T1", "ada")
        # A restart that changes no groups sends nothing.
        terminal = await house.terminal("T1")
        before = len(terminal.requests)
        await house.restart({"T1": ["staff"], "T2": []})
        await terminal.wait_connected()
        reply = await house.send("terminal/T1/open/set", "terminal/T1/reply")
        assert reply["outcome"] == "ok"
        assert len(terminal.requests) == before + 1
        assert "left" not in house.bridge.log


@asynccontextmanager
async def pressing(house: Building, sn: str) -> AsyncIterator[list[str]]:
    """Open the door of a terminal again and again; yield the list of the outcomes so far."""
    outcomes: list[str] = []

    async def press() -> None:
        while True:
            reply = await house.send(f"terminal/{sn}/open/set", f"terminal/{sn}/reply")
            outcomes.append(reply["outcome"])
            await asyncio.sleep(0.05)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(press())
        yield outcomes
        task.cancel()


@pytest.mark.timeout(300)
async def test_the_bridge_is_killed_while_a_terminal_joins_a_group_of_2000_persons(tmp_path: Path) -> None:
    number, portion = 2000, 100
    ids = [f"p{one:04}" for one in range(number)]
    async with building(tmp_path, {"T1": ["staff"]}) as house:
        # T1 never connects: it only makes the group accept persons.
        for start in range(0, number, portion):
            await house.set("staff", *(person(one) for one in ids[start : start + portion]))
        await house.admit("T2")
        terminal = await house.terminal("T2")
        await terminal.wait_connected()
        await house.client.publish("facebridge/bridge/admit/set", {"sn": "T2", "groups": ["staff"]})
        async with pressing(house, "T2") as outcomes:
            await until(lambda: len(terminal.persons) > 20 and len(outcomes) > 1)
        await house.client.wait_for("facebridge/terminal/T2/state", lambda one: one.json["persons"]["pending"] > 0)
        await house.bridge.kill()
        assert set(outcomes) == {"ok"}
        assert await query(tmp_path / "store.db", "SELECT sn FROM membership_job") == [("T2",)]
        assert len(terminal.persons) < number

        house.client.heard.clear()
        await house.bridge.start()
        await house.wait_online()
        await house.client.wait_for("facebridge/terminal/T2/availability", lambda one: one.payload == b"online")
        async with pressing(house, "T2") as outcomes:
            await house.client.wait_for(
                "facebridge/terminal/T2/state",
                lambda one: one.json["persons"] == {"desired": number, "confirmed": number, "pending": 0, "refused": 0},
                within=120,
            )
        assert set(outcomes) == {"ok"}
        assert set(terminal.persons) == set(ids)
        assert await query(tmp_path / "store.db", "SELECT count(*) FROM membership_job") == [(0,)]
        assert await query(tmp_path / "store.db", "SELECT count(*) FROM membership_done") == [(0,)]


@pytest.mark.timeout(300)
async def test_the_bridge_is_killed_during_a_change_of_a_group_with_300_members(tmp_path: Path) -> None:
    ids = ["p0"]
    members = [f"M{one:03}" for one in range(300)]
    store = tmp_path / "store.db"
    async with building(tmp_path, {sn: ["staff"] for sn in members}) as house:
        change = {"persons": [person(one) for one in ids], "request_id": "many"}
        await house.client.publish("facebridge/group/staff/person/set", change)
        await until_query(store, "SELECT count(*) FROM group_change", [(1,)])
        await house.bridge.kill()
        assert await query(store, "SELECT count(*) FROM person_entry") != [(len(ids) * len(members),)]

        house.client.heard.clear()
        await house.bridge.start()
        await house.wait_online()
        # A later change counts later.
        reply = await house.send("terminal/M299/person/remove", "terminal/M299/reply", id="p0")
        assert reply["outcome"] == "accepted"
        await house.holds("M000", *ids)
        await house.holds("M299")
        await until_query(store, "SELECT count(*) FROM group_change", [(0,)])
        held = "SELECT count(*) FROM person_entry WHERE held AND access = '[\"staff\"]'"
        assert await query(store, held) == [(len(ids) * len(members) - 1,)]
        assert await query(store, "SELECT count(*) FROM group_change_person") == [(0,)]
        assert await query(store, "SELECT count(*) FROM group_change_member") == [(0,)]
        assert await query(store, "SELECT count(*) FROM membership_done") == [(0,)]


async def until_query(store: Path, statement: str, rows: list[tuple[Any, ...]]) -> None:
    """Wait until a query returns these rows."""
    async with asyncio.timeout(60):
        while await query(store, statement) != rows:
            await asyncio.sleep(0.01)
