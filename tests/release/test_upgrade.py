"""The upgrade of a store and a configuration that an earlier release has made.

`scripts/release` runs these tests with the wheel that it has built; otherwise they run with this checkout.
"""

import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from bridge.simulator.terminal import SimulatedTerminal
from tests.release.released_bridge import KEPT, ReleasedBridge
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import MqttClient, mqtt_client

RELEASES = sorted(folder.name for folder in KEPT.iterdir())


@pytest.fixture(params=RELEASES)
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a user of an earlier release."""
    kept = KEPT / request.param
    shutil.copy(kept / "config.yaml", tmp_path)
    with closing(sqlite3.connect(tmp_path / "facebridge.db")) as store:
        store.executescript((kept / "store.sql").read_text())
    return tmp_path


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    (tmp_path / "broker").mkdir()
    async with Mosquitto(tmp_path / "broker") as broker:
        yield broker


@pytest_asyncio.fixture
async def client(broker: Mosquitto) -> AsyncIterator[MqttClient]:
    async with mqtt_client(broker.port, "#") as client:
        yield client


async def listed(bridge: ReleasedBridge, command: str, *arguments: str) -> list[dict[str, Any]]:
    code, output = await bridge.run(*command.split(), "--json", *arguments)
    assert code == 0, output
    return [json.loads(line) for line in output.splitlines()]


def test_a_release_is_kept() -> None:
    assert RELEASES


async def test_the_configuration_is_still_valid(folder: Path, broker: Mosquitto) -> None:
    code, output = await ReleasedBridge(folder, broker.port).run("check")
    assert code == 0, output


async def test_persons_terminals_and_the_log_are_still_there(folder: Path, broker: Mosquitto) -> None:
    bridge = ReleasedBridge(folder, broker.port)
    # The store is upgraded by the first command that opens it.
    persons = {(one["sn"], one["id"]): one for one in await listed(bridge, "persons list")}
    assert {key: (one["name"], one["wanted"], one["delivery"]) for key, one in persons.items() if key[1] != "1004"} == {
        ("FRONT", "1001"): ("Ada", "present", "confirmed"),
        ("FRONT", "1002"): ("Grace", "present", "confirmed"),
        ("BACK", "1001"): ("Ada", "present", "confirmed"),
        ("BACK", "1003"): ("Linus", "present", "pending"),
    }
    assert persons["BACK", "1004"]["wanted"] == "removed"
    assert set(persons["FRONT", "1001"]["access"]) == {"lobby"}
    log = await listed(bridge, "log")
    assert ("setPerson", "FRONT", "1002", "ok") in {
        (one["command"], one["sn"], one["person_id"], one["outcome"]) for one in log
    }


async def test_changes_that_were_pending_arrive_and_doors_open(
    folder: Path, broker: Mosquitto, client: MqttClient
) -> None:
    bridge = ReleasedBridge(folder, broker.port)
    async with (
        bridge.running(),
        SimulatedTerminal(bridge.terminal_url, "FRONT").running() as front,
        SimulatedTerminal(bridge.terminal_url, "BACK").running() as back,
        SimulatedTerminal(bridge.terminal_url, "SIDE").running() as side,
    ):
        await front.wait_connected()
        replies = await client.wait_for_all(
            "facebridge/terminal/BACK/reply", 2, lambda one: one.json["outcome"] == "ok"
        )
        assert {one.json["request_id"] for one in replies} == {
            "terminal/BACK/person/set 1003",
            "terminal/BACK/person/remove 1004",
        }
        assert set(back.persons) == {"1003"}, "only what was pending is sent"
        assert not front.persons
        await client.publish("facebridge/terminal/FRONT/open/set", {"request_id": "open"}, qos=1)
        await client.wait_for(
            "facebridge/terminal/FRONT/reply",
            lambda one: (one.json["request_id"], one.json["outcome"]) == ("open", "ok"),
        )
        assert front.opened == 1
        # The group still keeps its person: a terminal that joins receives it.
        await client.publish("facebridge/bridge/admit/set", {"sn": "SIDE", "groups": ["lobby"]})
        await client.wait_for(
            "facebridge/terminal/SIDE/state",
            lambda one: one.json["persons"]["confirmed"] == 1,
            within=30,
        )
        assert side.persons["1001"].name == "Ada"
    # The second start finds the upgraded store.
    again = ReleasedBridge(folder, broker.port)
    async with again.running():
        pass
    assert "Traceback" not in bridge.log + again.log
