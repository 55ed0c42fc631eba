"""The log of a bridge process: one line for what belongs together, and a reason for every failure."""

import re
from pathlib import Path

import aiohttp
import pytest

from bridge.simulator.behaviour import Behaviour, Refusal
from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.command_line.simulated import connected_terminals
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.facebridge import facebridge, pictures, write
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.waiting import until

QUICK = ConnectionOptions(first_retry_seconds=0.02, max_retry_seconds=0.05)


def lines(log: str, text: str) -> list[str]:
    return [line.partition(": ")[2] for line in log.splitlines() if text in line]


async def test_presses_changes_and_imports_in_the_log(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with (
        process.running() as bridge,
        connected_terminals(bridge, "T1", "T2") as (first, second),
        mqtt_client(mosquitto.port, "facebridge/+/+/reply") as client,
    ):
        await until(lambda: first.connected and second.connected)
        second.behaviour = Behaviour(refusal=Refusal(7, "memory full"))
        await client.publish("facebridge/group/lobby/open/set", {"request_id": "together"})
        await bridge.wait_log("open on group lobby: 1 ok, 1 refused (T2 refused)")
        assert len(lines(bridge.log, "open")) == 1
        ids = [str(1000 + number) for number in range(30)]
        faces = pictures(tmp_path, *ids)
        file = write(tmp_path, "id,name\n" + "".join(f"{one},Somebody\n" for one in ids))
        assert (await facebridge(tmp_path, "persons", "import", file, "--terminal", "T1", "--photos", faces)).code == 0
        await bridge.wait_log("setPerson from facebridge persons import by ")
        await client.publish("facebridge/terminal/T2/person/remove", {"id": "1000", "request_id": "gone"}, qos=1)
        await bridge.wait_log("removePerson of 1000 on T2: refused, status 7: memory full")
        await client.publish("facebridge/terminal/T1/person/set", {"id": "1", "name": "A", "photo": "?"}, qos=1)
        await bridge.wait_log("setPerson of 1 on T1 (Front door): invalid: photo: ")
    assert sum(map(int, re.findall(r"import by \S+: (\d+) ok", bridge.log))) == 30
    assert len(lines(bridge.log, "persons import by")) <= 2


async def test_repeated_faults_are_one_line_and_then_a_count(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge:
        wrong = bridge.terminal_url.replace("dev:123", "dev:wrong")
        async with SimulatedTerminal(wrong, "T1", options=QUICK).running() as terminal:
            await terminal.wait_refused(9)
        assert len(lines(bridge.log, "refused T1 (Front door) from 127.0.0.1: wrong credentials")) == 1
        async with (
            SimulatedTerminal(bridge.terminal_url, "T2", options=QUICK).running() as one,
            SimulatedTerminal(bridge.terminal_url, "T2", options=QUICK).running() as other,
        ):
            await until(lambda: one.connections + other.connections > 12)
            await bridge.wait_log("replace each other: either two devices have this SN")
        assert len(lines(bridge.log, "terminal T2 connected from 127.0.0.1")) <= 2
        async with aiohttp.ClientSession() as session:
            for _ in range(3):
                with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
                    await session.ws_connect(f"http://127.0.0.1:{bridge.terminals_port}/doors/T1")
        await bridge.wait_log(
            "refused a terminal from 127.0.0.1: wrong path /doors/T1, terminals connect to /devs/<SN>"
        )
    assert re.search(
        r"wrong credentials: correct user and password on the terminal \(repeated \d+ times in the last 60 s\)",
        bridge.log,
    )
    assert "address=127.0.0.1" not in bridge.log
