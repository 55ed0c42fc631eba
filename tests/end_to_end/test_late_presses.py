"""Promise 1 with real parts: a bridge process, a broker, terminals, and faults on every link between them.

A terminal carries a press out within the deadline (2 s here) or not at all, and its sender receives the outcome.
"""

import asyncio
import signal
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Literal

import aiohttp
import pytest
from PIL import Image

from bridge.core.clock import Clock
from bridge.simulator.behaviour import Behaviour
from bridge.simulator.faces import sample_photo
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.freezing_proxy import FreezingProxy
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import Heard, MqttClient, mqtt_client
from tests.support.narrow_link import NarrowLink
from tests.support.network import Host
from tests.support.waiting import TIMEOUT_SECONDS, until

DEADLINE_SECONDS = 2.0
OPEN = "facebridge/terminal/T1/open/set"
REPLY = "facebridge/terminal/T1/reply"


@pytest.fixture
async def bridge(tmp_path: Path, mosquitto: Mosquitto) -> AsyncIterator[BridgeProcess]:
    async with BridgeProcess(tmp_path, configuration(mosquitto.port)).running() as running:
        yield running


@asynccontextmanager
async def terminal_and_client(
    bridge: BridgeProcess,
    mosquitto: Mosquitto,
    behaviour: Behaviour | None = None,
    protocol: Literal["5", "3.1.1"] = "5",
) -> AsyncIterator[tuple[SimulatedTerminal, MqttClient]]:
    """Connect a terminal to the bridge and an MQTT client to the broker; yield them once the bridge is online."""
    terminal = SimulatedTerminal(bridge.terminal_url, "T1", behaviour=behaviour)
    async with mqtt_client(mosquitto.port, protocol=protocol) as client, terminal.running():
        await client.subscribe("facebridge/#")
        await client.wait_for("facebridge/terminal/T1/availability", lambda one: one.payload == b"online")
        await client.wait_for("facebridge/bridge/availability", lambda one: one.payload == b"online")
        yield terminal, client


async def reply_to(client: MqttClient, request_id: str) -> Heard:
    """Return the first reply with this request id."""
    return await client.wait_for(REPLY, lambda one: one.json["request_id"] == request_id)


async def replies_to_late_presses(client: MqttClient, number: int) -> list[Heard]:
    """Return the replies to the presses whose request ids start with `late`."""
    replies = await client.wait_for_all(REPLY, number, lambda one: str(one.json["request_id"]).startswith("late"))
    return list(replies)


async def press_until_the_door_opens(client: MqttClient, terminal: SimulatedTerminal) -> None:
    """Press until a press is carried out: for about a second after a stall the bridge answers `expired`."""
    before = terminal.opened
    async with asyncio.timeout(TIMEOUT_SECONDS):
        for number in range(100):
            request_id = f"afterwards {before} {number}"
            await client.publish(OPEN, {"request_id": request_id})
            reply = await reply_to(client, request_id)
            if reply.json["outcome"] == "ok":
                break
            await asyncio.sleep(0.2)
    assert terminal.opened == before + 1


async def test_presses_queued_in_a_frozen_broker(bridge: BridgeProcess, mosquitto: Mosquitto) -> None:
    async with terminal_and_client(bridge, mosquitto) as (terminal, client):
        mosquitto.freeze()
        presses = [
            asyncio.get_running_loop().create_task(client.publish(OPEN, {"request_id": f"late {number}"}))
            for number in range(50)
        ]
        await asyncio.sleep(DEADLINE_SECONDS + 1)
        mosquitto.thaw()
        await asyncio.gather(*presses)
        replies = await replies_to_late_presses(client, 50)
        assert {one.json["outcome"] for one in replies} == {"expired"}
        assert {one.json["delivered"] for one in replies} == {False}
        assert terminal.opened == 0
        await press_until_the_door_opens(client, terminal)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_presses_queued_in_a_frozen_bridge(
    tmp_path: Path, mosquitto: Mosquitto, protocol: Literal["5", "3.1.1"]
) -> None:
    settings = configuration(mosquitto.port, mqtt={"protocol": protocol})
    async with (
        BridgeProcess(tmp_path, settings).running() as bridge,
        terminal_and_client(bridge, mosquitto, protocol=protocol) as (terminal, client),
    ):
        bridge.freeze()
        for number in range(20):
            await client.publish(OPEN, {"request_id": f"late {number}"})
        async with aiohttp.ClientSession() as session:
            over_http = [
                asyncio.get_running_loop().create_task(session.post(f"{bridge.web_url}/api/terminals/T1/open"))
                for _ in range(5)
            ]
            await asyncio.sleep(DEADLINE_SECONDS + 1)
            bridge.thaw()
            answers = await asyncio.gather(*over_http)
            assert [answer.status for answer in answers] == [504] * 5
            assert {(await answer.json())["outcome"] for answer in answers} == {"expired"}
        replies = await replies_to_late_presses(client, 20)
        assert {one.json["outcome"] for one in replies} == {"expired"}
        assert terminal.opened == 0
        await press_until_the_door_opens(client, terminal)


@pytest.mark.parametrize("first", ["broker", "bridge"])
async def test_presses_queued_while_broker_and_bridge_are_frozen_together(
    bridge: BridgeProcess, mosquitto: Mosquitto, first: str
) -> None:
    """As on one machine that is suspended, or whose virtual machine is paused."""
    async with terminal_and_client(bridge, mosquitto) as (terminal, client), aiohttp.ClientSession() as session:
        bridge.freeze()
        mosquitto.freeze()
        loop = asyncio.get_running_loop()
        presses = [loop.create_task(client.publish(OPEN, {"request_id": f"late {number}"})) for number in range(20)]
        over_http = loop.create_task(session.post(f"{bridge.web_url}/api/terminals/T1/open"))
        await asyncio.sleep(DEADLINE_SECONDS + 1)
        frozen: list[Mosquitto | BridgeProcess] = [mosquitto, bridge] if first == "broker" else [bridge, mosquitto]
        for one in frozen:
            one.thaw()
        await asyncio.gather(*presses)
        assert (await over_http).status == 504
        replies = await replies_to_late_presses(client, 20)
        assert {one.json["outcome"] for one in replies} == {"expired"}
        assert terminal.opened == 0
        await press_until_the_door_opens(client, terminal)


async def test_presses_queued_on_a_frozen_link_to_the_broker(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with (
        FreezingProxy(mosquitto.port).running() as link,
        BridgeProcess(tmp_path, configuration(link.port)).running() as bridge,
        terminal_and_client(bridge, mosquitto) as (terminal, client),
    ):
        link.freeze()
        for number in range(20):
            await client.publish(OPEN, {"request_id": f"late {number}"})
        await asyncio.sleep(DEADLINE_SECONDS + 1)
        link.thaw()
        replies = await replies_to_late_presses(client, 20)
        assert {one.json["outcome"] for one in replies} == {"expired"}
        assert terminal.opened == 0
        await press_until_the_door_opens(client, terminal)


async def test_frozen_terminal_behind_a_proxy(bridge: BridgeProcess, mosquitto: Mosquitto) -> None:
    """The proxy's kernel has acknowledged the press, which may still arrive: `delivered` must not be false."""
    async with FreezingProxy(bridge.terminals_port).running() as link, mqtt_client(mosquitto.port) as client:
        await client.subscribe("facebridge/#")
        terminal = SimulatedTerminal(f"ws://dev:123@127.0.0.1:{link.port}/devs/", "T1")
        async with terminal.running():
            await client.wait_for("facebridge/terminal/T1/availability", lambda one: one.payload == b"online")
            link.freeze()
            await client.publish(OPEN, {"request_id": "into the proxy"})
            reply = (await client.wait_for(REPLY)).json
            assert (reply["outcome"], reply["delivered"]) == ("timeout", True)


async def test_press_written_to_a_dead_link_is_withdrawn(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration(mosquitto.port, commands={"deadline": 5})
    async with (
        BridgeProcess(tmp_path, settings).running() as bridge,
        Host().linked() as host,
        mqtt_client(mosquitto.port) as client,
    ):
        await client.subscribe("facebridge/#")
        url = f"ws://dev:123@{host.outside}:{bridge.terminals_port}/devs/"
        process = await host.run(sys.executable, "-m", "tests.support.terminal_process", url, "T1")
        try:
            await client.wait_for("facebridge/terminal/T1/availability", lambda one: one.payload == b"online")
            host.pull()
            await client.publish(OPEN, {"request_id": "cable pulled"})
            reply = (await reply_to(client, "cable pulled")).json
            assert reply["outcome"] in ("timeout", "lost")
            assert reply["delivered"] is None, "it was transmitted"
            client.heard.clear()
            host.plug()
            await client.wait_for(
                "facebridge/terminal/T1/availability", lambda one: one.payload == b"online", within=40
            )
            await client.publish(OPEN, {"request_id": "cable plugged in"})
            assert (await reply_to(client, "cable plugged in")).json["outcome"] == "ok"
        finally:
            process.terminate()
            output, _ = await process.communicate()
        assert output.decode() == "opened 1\n", "the press before was carried out late"


async def test_press_that_the_terminal_does_not_answer(bridge: BridgeProcess, mosquitto: Mosquitto) -> None:
    async with terminal_and_client(bridge, mosquitto, Behaviour(silent=True)) as (terminal, client):
        await client.publish(OPEN, {"request_id": "silence"})
        reply = (await client.wait_for(REPLY)).json
        assert (reply["outcome"], reply["delivered"]) == ("timeout", True)
        assert terminal.connections == 1, "the connection stays"


@pytest.mark.parametrize(("photo_pixels", "link_is_slow"), [(200, True), (1_000, False)])
async def test_press_behind_a_photo_in_a_frozen_bridge(
    bridge: BridgeProcess, mosquitto: Mosquitto, photo_pixels: int, link_is_slow: bool
) -> None:
    """A press must not wait in a buffer.

    The kernel of a frozen bridge empties its buffer, at the pace at which the terminal reads. A bridge that continues
    sends what waits in its own buffer before it looks at the clock.
    """
    async with NarrowLink(bridge.terminals_port).running() as link, mqtt_client(mosquitto.port) as client:
        await client.subscribe("facebridge/#")
        terminal = SimulatedTerminal(f"ws://dev:123@127.0.0.1:{link.port}/devs/", "T1")
        async with terminal.running():
            await client.wait_for("facebridge/terminal/T1/availability", lambda one: one.payload == b"online")
            await press_until_the_door_opens(client, terminal)
            link.freeze()
            photo = b64encode(noisy_photo(photo_pixels)).decode()
            await client.publish("facebridge/terminal/T1/person/set", {"id": "1", "name": "Ada", "photo": photo})
            await client.wait_for(REPLY, lambda one: one.json["outcome"] == "accepted")
            # The photo is written to the connection some milliseconds later.
            await asyncio.sleep(0.2)
            await client.publish(OPEN, {"request_id": "late"})
            await asyncio.sleep(0.2)
            bridge.freeze()
            link.pause_seconds = 0.15 if link_is_slow else 0
            link.thaw()
            await asyncio.sleep(DEADLINE_SECONDS + 2)
            assert terminal.opened == 1, "the press was carried out while the bridge was frozen"
            bridge.thaw()
            link.pause_seconds = 0
            reply = (await reply_to(client, "late")).json
            assert reply["outcome"] in ("timeout", "lost")
            assert reply["delivered"] is False
            await press_until_the_door_opens(client, terminal)
            assert terminal.opened == 2, "the press behind the photo was carried out late"


def noisy_photo(side: int) -> bytes:
    """Return a square JPEG that compresses badly; one of 1,000 pixels has 0.6 MB."""
    image = Image.frombytes("RGB", (side, side), Random(1).randbytes(side * side * 3))
    output = BytesIO()
    image.save(output, "JPEG", quality=75)
    return output.getvalue()


async def test_no_press_waits_for_an_offline_terminal(bridge: BridgeProcess, mosquitto: Mosquitto) -> None:
    async with mqtt_client(mosquitto.port) as client:
        await client.subscribe("facebridge/#")
        await client.publish(OPEN, {"request_id": "offline"})
        assert (await client.wait_for(REPLY)).json["outcome"] == "offline"
        terminal = SimulatedTerminal(bridge.terminal_url, "T1")
        async with terminal.running():
            await client.wait_for("facebridge/terminal/T1/availability", lambda one: one.payload == b"online")
            await press_until_the_door_opens(client, terminal)
            assert terminal.opened == 1


async def test_no_press_waits_for_a_stopped_bridge(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("broker")
    async with Mosquitto(folder, persistent=True) as mosquitto:
        bridge = BridgeProcess(tmp_path, configuration(mosquitto.port))
        async with bridge.running(), mqtt_client(mosquitto.port) as client:
            await client.subscribe("facebridge/#")
            await bridge.stop()
            for retain in (False, True):
                await client.publish(OPEN, {"request_id": "bridge stopped"}, retain=retain)
            client.heard.clear()
            await bridge.start()
            terminal = SimulatedTerminal(bridge.terminal_url, "T1")
            async with terminal.running():
                await client.wait_for("facebridge/terminal/T1/availability", lambda one: one.payload == b"online")
                await press_until_the_door_opens(client, terminal)
                assert terminal.opened == 1


async def test_a_press_that_arrives_again_after_a_kill_is_not_carried_out_twice(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """With the longest deadline, the press is still young after a restart."""
    settings = configuration(mosquitto.port, commands={"deadline": 60}, web={"port": 0})
    bridge = BridgeProcess(tmp_path, settings)
    async with bridge.running():
        async with terminal_and_client(bridge, mosquitto) as (terminal, client):
            press = {"request_id": "once", "asked_at": Clock().now().timestamp()}
            await client.publish(OPEN, press)
            assert (await reply_to(client, "once")).json["outcome"] == "ok"
            assert terminal.opened == 1
            assert await bridge.stop(signal.SIGKILL) == -signal.SIGKILL
        await bridge.start()
        async with terminal_and_client(bridge, mosquitto) as (terminal, client):
            await press_until_the_door_opens(client, terminal)
            await client.publish(OPEN, press)
            reply = await reply_to(client, "once")
            assert (reply.json["outcome"], reply.json["delivered"]) == ("expired", None)
            assert terminal.opened == 1


async def test_press_overtakes_a_photo_that_the_terminal_does_not_answer(
    bridge: BridgeProcess, mosquitto: Mosquitto
) -> None:
    async with terminal_and_client(bridge, mosquitto, Behaviour(silent=True)) as (terminal, client):
        photo = b64encode(sample_photo(1)).decode()
        persons = [{"id": str(number), "name": "Ada", "photo": photo} for number in range(20)]
        await client.publish("facebridge/terminal/T1/person/set", persons)
        await terminal.wait_request("setPerson")
        terminal.behaviour = Behaviour()
        await client.publish(OPEN, {"request_id": "overtaking"})
        assert (await reply_to(client, "overtaking")).json["outcome"] == "ok"
        assert [request.cmd for request in terminal.requests] == ["setPerson", "open"], "one person is in flight"


async def test_regular_stop(bridge: BridgeProcess, mosquitto: Mosquitto) -> None:
    """The bridge exits with 0, and publishes that the terminal and then the bridge are offline."""
    async with terminal_and_client(bridge, mosquitto) as (_, client):
        client.heard.clear()
        assert await asyncio.wait_for(bridge.stop(), 5) == 0
        await until(lambda: len([one for one in client.heard if one.payload == b"offline"]) >= 2)
        offline = [one.topic for one in client.heard if one.payload == b"offline"]
        assert offline == ["facebridge/terminal/T1/availability", "facebridge/bridge/availability"]
        assert "Traceback" not in bridge.log
