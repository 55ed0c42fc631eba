"""`terminals.forward_messages`: a bridge, a real broker, and terminals that send what the protocol does not know."""

import asyncio
from pathlib import Path

import aiohttp
import orjson
import pytest

from bridge.mqtt.message_forwarding import MAX_MESSAGE_BYTES, MAX_MESSAGES_A_SECOND
from bridge.simulator.behaviour import Behaviour
from bridge.simulator.terminal import SimulatedTerminal
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.contract import validator
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.waiting import until

TOPIC = "facebridge/terminal/T1/message"


def forwarding(port: int) -> dict[str, object]:
    return configuration(port, terminals={"forward_messages": True})


async def test_messages_are_published_as_json_or_text(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, forwarding(mosquitto.port))
    async with (
        process.running() as bridge,
        mqtt_client(mosquitto.port, TOPIC) as client,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{bridge.terminal_url}T1", autoping=False) as socket,
    ):
        for sent, message in (
            ('{"cmd":"pass","n":1e400000}', '{"cmd":"pass","n":1e400000}'),
            ('{"cmd":"pass","big":12345678901234567890}', {"cmd": "pass", "big": 12345678901234567890}),
            ("[1, 2]", [1, 2]),
            ("opened by Ada", "opened by Ada"),
            ("[" * 3000, "[" * 3000),
        ):
            await socket.send_str(sent)
            heard = await client.wait_for(TOPIC)
            client.heard.clear()
            assert (heard.qos, heard.retain) == (0, False)
            value = orjson.loads(heard.payload)
            assert value["sn"] == "T1"
            assert value["message"] == message
            validator("TerminalMessage").validate(value)


async def test_large_messages_floods_and_replies_are_not_forwarded(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, forwarding(mosquitto.port))
    async with (
        process.running() as bridge,
        mqtt_client(mosquitto.port, TOPIC, "facebridge/terminal/T1/reply") as client,
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{bridge.terminal_url}T1", autoping=False) as socket,
    ):
        await socket.send_str("x" * (MAX_MESSAGE_BYTES + 1))
        await socket.send_str("ping")
        await socket.send_str("")
        await socket.send_str('{"msgid":"m","sn":"T1","cmd":"","msg":"{\\"status\\":0,\\"msg\\":\\"ok\\"}"}')
        await socket.send_bytes(b"binary")
        seconds = asyncio.get_running_loop().time()
        for number in range(200):
            await socket.send_str(f"message {number}")
        # The bridge answers in order: all messages are handled before this press.
        await client.publish("facebridge/terminal/T1/open/set", {"request_id": "r"})
        request = orjson.loads((await socket.receive()).data)
        answer = orjson.dumps({"status": 0, "msg": "ok"}).decode()
        await socket.send_str(orjson.dumps({"msgid": request["msgid"], "sn": "T1", "cmd": "", "msg": answer}).decode())
        await client.wait_for("facebridge/terminal/T1/reply")
        # Several frames in one read take another way than the answer, and can come after it.
        await until(lambda: sum(one.topic == TOPIC for one in client.heard) >= MAX_MESSAGES_A_SECOND)
        seconds = asyncio.get_running_loop().time() - seconds
        messages = [orjson.loads(one.payload)["message"] for one in client.heard if one.topic == TOPIC]
        assert messages[:MAX_MESSAGES_A_SECOND] == [f"message {number}" for number in range(MAX_MESSAGES_A_SECOND)]
        assert len(messages) <= MAX_MESSAGES_A_SECOND * (int(seconds) + 2)


@pytest.mark.parametrize("forward", [True, False])
async def test_passes_of_simulated_terminals_are_forwarded_only_on_request(
    mosquitto: Mosquitto, tmp_path: Path, forward: bool
) -> None:
    settings = forwarding(mosquitto.port) if forward else configuration(mosquitto.port)
    async with (
        BridgeProcess(tmp_path, settings).running() as bridge,
        mqtt_client(mosquitto.port, "facebridge/#") as client,
    ):
        terminal = SimulatedTerminal(bridge.terminal_url, "T1", behaviour=Behaviour(pass_seconds=0.05))
        async with terminal.running():
            if forward:
                heard = await client.wait_for(TOPIC)
                assert heard.json["message"] == {"sn": "T1", "cmd": "pass", "msg": {"number": 1, "id": None}}
            else:
                await bridge.wait_log("is no reply")
                await client.publish("facebridge/terminal/T1/open/set", {"request_id": "r"})
                await client.wait_for("facebridge/terminal/T1/reply")
                assert not [one for one in client.heard if one.topic == TOPIC]
