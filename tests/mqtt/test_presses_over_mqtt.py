"""Presses over a real broker: topic, payload, QoS and retain flag of every reply in docs/mqtt.md."""

import asyncio
from itertools import count
from typing import Literal

import orjson
import pytest

from bridge.protocol.replies import TerminalReply
from tests.support.core import known_terminal
from tests.support.freezing_proxy import FreezingProxy
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_bridge import Bridge, running
from tests.support.mqtt_client import MqttClient, mqtt_client
from tests.support.mqtt_connection import CONNACK_3, PUBLISH, SUBSCRIBE, Visit, scripted_broker
from tests.support.waiting import TIMEOUT_SECONDS, until

Protocol = Literal["5", "3.1.1"]

ONLINE = "facebridge/bridge/availability"
REPLY = "facebridge/terminal/T1/reply"
REPLY_KEYS = {
    "request_id",
    "msgid",
    "sn",
    "command",
    "person_id",
    "outcome",
    "status",
    "message",
    "delivered",
    "at",
    "duration_ms",
}


async def online(client: MqttClient) -> None:
    await client.wait_for(ONLINE, lambda message: message.payload == b"online")


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize(("command", "frame"), [("open", "OpenRequest"), ("reboot", "RebootRequest")])
async def test_a_press_is_carried_out_and_answered(
    mosquitto: Mosquitto, protocol: Protocol, command: str, frame: str
) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", protocol=protocol) as client,
        running(Bridge(mosquitto.port, protocol), known_terminal("T1")) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1")
        await client.publish(f"facebridge/terminal/T1/{command}/set", {"request_id": "r1"})
        answer = await client.wait_for(REPLY)
        assert (answer.qos, answer.retain) == (1, False)
        assert answer.json.keys() == REPLY_KEYS
        expected = {
            "request_id": "r1",
            "msgid": "m1",
            "sn": "T1",
            "command": command,
            "person_id": None,
            "outcome": "ok",
            "status": 0,
            "message": "ok",
            "delivered": True,
        }
        assert answer.json | expected == answer.json
        await client.publish(f"facebridge/terminal/T1/{command}/set", "PRESS", qos=0)
        answers = await client.wait_for_all(REPLY, 2)
        assert answers[1].json["request_id"] is None
        assert connection.commands == [frame, frame]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_the_other_outcomes_of_a_press(mosquitto: Mosquitto, protocol: Protocol) -> None:
    def refuse(msgid: str) -> TerminalReply:
        return TerminalReply(msgid, None, 3, "busy")

    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, protocol, deadline=3.0), *map(known_terminal, ("T1", "T2", "T3"))) as bridge,
    ):
        await online(client)
        bridge.connect("T2", refuse)
        bridge.connect("T3", lambda _: None)
        for sn in ("T1", "T2", "T3", "T4"):
            await client.publish(f"facebridge/terminal/{sn}/open/set", "PRESS")
        outcomes = {
            sn: (await client.wait_for(f"facebridge/terminal/{sn}/reply")).json["outcome"]
            for sn in ("T1", "T2", "T3", "T4")
        }
        assert outcomes == {"T1": "offline", "T2": "refused", "T3": "timeout", "T4": "invalid"}


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_press_on_a_group_gets_a_summary(mosquitto: Mosquitto, protocol: Protocol) -> None:
    terminals = [known_terminal("T1", groups=("lobby",)), known_terminal("T2", groups=("lobby",)), known_terminal("T3")]
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", protocol=protocol) as client,
        running(Bridge(mosquitto.port, protocol), *terminals) as bridge,
    ):
        await online(client)
        bridge.connect("T1")
        bridge.connect("T3")
        await client.publish("facebridge/group/lobby/open/set", {"request_id": "g1"})
        summary = await client.wait_for("facebridge/group/lobby/reply")
        assert (summary.qos, summary.retain) == (1, False)
        assert {key: value for key, value in summary.json.items() if key != "at"} == {
            "request_id": "g1",
            "command": "open",
            "group": "lobby",
            "total": 2,
            "outcomes": {"ok": 1, "offline": 1},
            "failed": {"T2": "offline"},
        }
        assert (await client.wait_for(REPLY)).json["request_id"] == "g1"
        assert (await client.wait_for("facebridge/terminal/T2/reply")).json["outcome"] == "offline"
        assert "facebridge/terminal/T3/reply" not in client.topics()
        await client.publish("facebridge/group/all/reboot/set", "PRESS")
        everyone = await client.wait_for("facebridge/group/all/reply")
        assert everyone.json["total"] == 3
        await client.publish("facebridge/group/nobody/open/set", {"request_id": "g2"})
        unknown = (await client.wait_for("facebridge/group/nobody/reply")).json
        assert unknown.keys() == REPLY_KEYS | {"group", "errors"}
        assert (unknown["outcome"], unknown["sn"], unknown["group"]) == ("invalid", None, "nobody")
        assert unknown["request_id"] == "g2"


async def test_a_reply_goes_to_the_response_topic_too(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", "answers/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1", groups=("lobby",))) as bridge,
    ):
        await online(client)
        bridge.connect("T1")
        await client.publish(
            "facebridge/terminal/T1/open/set", "PRESS", response_topic="answers/1", correlation_data=b"\x00mark"
        )
        answer = await client.wait_for("answers/1")
        assert (answer.qos, answer.retain, answer.correlation_data) == (1, False, b"\x00mark")
        assert answer.payload == (await client.wait_for(REPLY)).payload
        await client.publish("facebridge/group/lobby/open/set", "PRESS", response_topic="answers/2")
        assert (await client.wait_for("answers/2")).json["group"] == "lobby"
        await client.wait_for_all(REPLY, 2)
        assert client.topics().count("answers/2") == 1, "only the summary goes there"


async def test_a_response_topic_inside_the_base_cannot_press(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1"), known_terminal("T2")) as bridge,
    ):
        await online(client)
        bridge.connect("T1")
        victim = bridge.connect("T2")
        await client.publish(
            "facebridge/terminal/T1/open/set", "PRESS", response_topic="facebridge/terminal/T2/open/set"
        )
        await client.wait_for(REPLY)
        await client.publish("facebridge/terminal/T1/open/set", "PRESS")
        await client.wait_for_all(REPLY, 2)
        assert "facebridge/terminal/T2/open/set" not in client.topics()
        assert victim.frames == []


async def test_a_retained_press_is_rejected(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1")
        await client.publish("facebridge/terminal/T1/open/set", "PRESS", retain=True)
        answer = await client.wait_for(REPLY)
        assert answer.json["outcome"] == "invalid"
        assert "retain" in answer.json["errors"][0]["message"]
        await client.publish("facebridge/terminal/T1/open/set", {"request_id": "r1"}, retain=True)
        await client.wait_for("facebridge/terminal/T1/reply", lambda one: one.json["request_id"] == "r1")
        await client.publish("facebridge/terminal/T1/open/set", b"", retain=True)
        cleared = (await client.wait_for_all(REPLY, 3))[2]
        assert cleared.json["outcome"] == "invalid"
        assert connection.frames == []


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_press_stored_on_the_broker_is_never_carried_out(mosquitto: Mosquitto, protocol: Protocol) -> None:
    bridge = Bridge(mosquitto.port, protocol)
    async with mqtt_client(mosquitto.port, "facebridge/#", protocol=protocol) as client:
        await client.publish("facebridge/terminal/T1/open/set", {"request_id": "stored"}, retain=True)
        await bridge.admission.load([known_terminal("T1")])
        connection = bridge.connect("T1")
        async with running(bridge):
            await online(client)
            await client.publish("facebridge/terminal/T1/open/set", {"request_id": "fresh"})
            await client.wait_for(REPLY, lambda message: message.json["request_id"] == "fresh")
            assert len(connection.frames) == 1


async def test_an_empty_press_is_carried_out_over_5_and_invalid_over_3_1_1(mosquitto: Mosquitto) -> None:
    for protocol, outcome in (("5", "ok"), ("3.1.1", "invalid")):
        async with (
            mqtt_client(mosquitto.port, "facebridge/#") as client,
            running(Bridge(mosquitto.port, protocol), known_terminal("T1")) as bridge,  # type: ignore[arg-type]  # a str
        ):
            await online(client)
            bridge.connect("T1")
            await client.publish("facebridge/terminal/T1/open/set", b"")
            assert (await client.wait_for(REPLY)).json["outcome"] == outcome


@pytest.mark.parametrize("name", ["ä", "x" * 65, "a b", "..", "%2F", ""])
async def test_the_reply_to_an_ill_formed_name_goes_to_the_bridges_topic(mosquitto: Mosquitto, name: str) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/bridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")),
    ):
        await online(client)
        await client.publish(f"facebridge/terminal/{name}/open/set", "PRESS")
        await client.publish(f"facebridge/group/{name}/person/set", {"id": "1"})
        answers = await client.wait_for_all("facebridge/bridge/reply", 2)
        assert {(one.json["command"], one.json["outcome"], one.json["sn"]) for one in answers} == {
            ("open", "invalid", None),
            ("setPerson", "invalid", None),
        }
        assert all(one.json["errors"][0]["path"] == "topic" for one in answers)


INVALID_PRESSES: list[bytes] = [
    b"press",
    b"null",
    b"[1]",
    b'"PRESS"',
    b'{"request_id": 7}',
    b'{"requestid": "r"}',
    b"\xff\xfe",
    b"[" * 4000,
    b'{"a":' * 500,
    b"x" * 5000,
    b"x" * 20_000_000,
]


async def test_the_reply_to_an_invalid_press_names_the_fault(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, REPLY, ONLINE, "facebridge/bridge/event") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1")
        for payload in INVALID_PRESSES:
            await client.publish("facebridge/terminal/T1/open/set", payload)
        answers = await client.wait_for_all(REPLY, len(INVALID_PRESSES), within=20)
        assert [one.json["outcome"] for one in answers] == ["invalid"] * len(INVALID_PRESSES)
        assert all(one.json["errors"][0]["message"] for one in answers)
        assert "did you mean 'request_id'" in answers[5].json["message"]
        assert "20.0 MB, at most 4,096 bytes" in answers[-1].json["message"]
        assert all(len(one.payload) < 1500 for one in answers)
        event = await client.wait_for("facebridge/bridge/event")
        assert (event.json["type"], event.json["sn"], event.qos) == ("command_invalid", "T1", 0)
        assert connection.frames == []
        await client.publish("facebridge/terminal/T1/open/set", "PRESS")
        await client.wait_for(REPLY, lambda message: message.json["outcome"] == "ok")


async def test_presses_reach_a_terminal_in_order(mosquitto: Mosquitto) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        bridge.connect("T1")
        for number in range(20):
            await client.publish("facebridge/terminal/T1/open/set", {"request_id": str(number)})
        answers = await client.wait_for_all(REPLY, 20)
        assert [one.json["request_id"] for one in answers] == [str(number) for number in range(20)]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_press_with_qos_2_is_invalid(mosquitto: Mosquitto, protocol: Protocol) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", protocol=protocol) as client,
        running(Bridge(mosquitto.port, protocol), known_terminal("T1", groups=("lobby",))) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1")
        for topic in ("terminal/T1", "group/lobby"):
            await client.publish(f"facebridge/{topic}/open/set", {"request_id": "q2"}, qos=2)
            answer = (await client.wait_for(f"facebridge/{topic}/reply")).json
            assert (answer["outcome"], answer["request_id"]) == ("invalid", "q2")
            assert "QoS 0 or 1" in answer["message"]
        assert connection.frames == []
        await client.publish("facebridge/terminal/T1/open/set", {"request_id": "q1"})
        await client.wait_for(REPLY, lambda message: message.json["outcome"] == "ok")


async def test_a_press_whose_second_half_comes_much_later_is_invalid(mosquitto: Mosquitto) -> None:
    """QoS 2: the broker has accepted the PUBLISH, and passes it on 9 s later, when the PUBREL arrives."""
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1")
        reader, writer = await asyncio.open_connection("127.0.0.1", mosquitto.port)
        writer.write(b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02q2")
        assert await reader.readexactly(4) == CONNACK_3
        topic = b"facebridge/terminal/T1/open/set"
        body = len(topic).to_bytes(2, "big") + topic + b"\x00\x01PRESS"
        writer.write(b"\x34" + bytes([len(body)]) + body)
        assert (await reader.readexactly(4))[0] == 0x50, "PUBREC"
        await asyncio.sleep(9)
        writer.write(b"\x62\x02\x00\x01")
        assert (await client.wait_for(REPLY)).json["outcome"] == "invalid"
        assert connection.frames == []
        writer.close()


async def test_a_new_connection_does_not_use_the_lease_of_the_old_one() -> None:
    """A press can arrive together with the acknowledgement of its subscription, before any heartbeat."""
    break_connection = asyncio.Event()
    replies: asyncio.Queue[bytes] = asyncio.Queue()
    live_visits = count(1)

    async def broker(visit: Visit) -> None:
        _, connect = await visit.next()
        number = next(live_visits) if b"-live" in connect else None
        visit.send(CONNACK_3)
        while not (number == 1 and break_connection.is_set()):
            kind, body = await visit.next()
            if kind == SUBSCRIBE:
                filters = body.count(b"facebridge/") + body.count(b"/status")
                suback = b"\x90" + bytes([2 + filters]) + body[:2] + b"\x01" * filters
                visit.send(suback + (PRESS_PACKET if number == 2 and b"open/set" in body else b""))
            elif kind == PUBLISH:
                length = int.from_bytes(body[:2], "big")
                topic, mid, payload = body[2 : 2 + length], body[2 + length : 4 + length], body[4 + length :]
                if topic == b"facebridge/bridge/event":
                    continue
                visit.send(b"\x40\x02" + mid)
                if topic == b"facebridge/bridge/heartbeat":
                    echo = body[: 2 + length] + payload
                    visit.send(b"\x30" + bytes([len(echo)]) + echo)
                elif topic == b"facebridge/terminal/T1/reply":
                    replies.put_nowait(payload)

    async with (
        scripted_broker(broker) as port,
        running(Bridge(port, "3.1.1", deadline=30), known_terminal("T1")) as bridge,
    ):
        await bridge.adapter.wait_online()
        connection = bridge.connect("T1")
        break_connection.set()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            reply = orjson.loads(await replies.get())
        assert reply["outcome"] == "expired"
        assert connection.frames == []


PRESS_PACKET = b"\x30\x26\x00\x1ffacebridge/terminal/T1/open/setPRESS"


@pytest.mark.parametrize("noticed", [True, False])
@pytest.mark.parametrize("to_group", [True, False])
async def test_the_reply_to_a_press_is_published_when_the_broker_is_back(
    mosquitto: Mosquitto, noticed: bool, to_group: bool
) -> None:
    """Also if the reply was written to a connection that had ended already."""
    async with (
        mqtt_client(mosquitto.port, "facebridge/#", "answers/#") as client,
        FreezingProxy(mosquitto.port).running() as link,
        running(Bridge(link.port, "5", deadline=30), known_terminal("T1", groups=("lobby",))) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1", lambda _: None)
        target = "group/lobby" if to_group else "terminal/T1"
        await client.publish(
            f"facebridge/{target}/open/set",
            {"request_id": "r1"},
            response_topic="answers/1",
            correlation_data=b"7",
        )
        await until(lambda: connection.frames)
        if noticed:
            link.break_connections()
            await until(lambda: not bridge.adapter.is_online)
        else:
            link.freeze()
        bridge.registry.received(connection, TerminalReply("m1", None, 0, "ok"))
        if not noticed:
            await asyncio.sleep(0.1)
            link.break_connections()
            link.thaw()
        answer = await client.wait_for("answers/1", within=TIMEOUT_SECONDS)
        assert answer.correlation_data == b"7"
        assert answer.json["request_id"] == "r1"
        assert (await client.wait_for(REPLY)).json["outcome"] == "ok"
        assert len([one for one in client.heard if one.topic == REPLY]) == 1


@pytest.mark.parametrize("payload", [b"OPEN", b"ON", b"true", b"press", b"{open}"])
async def test_another_text_than_press_is_answered_with_what_to_publish(mosquitto: Mosquitto, payload: bytes) -> None:
    async with (
        mqtt_client(mosquitto.port, "facebridge/#") as client,
        running(Bridge(mosquitto.port, "5"), known_terminal("T1")) as bridge,
    ):
        await online(client)
        bridge.connect("T1")
        await client.publish("facebridge/terminal/T1/open/set", payload)
        answer = await client.wait_for(REPLY)
        assert answer.json["outcome"] == "invalid"
        assert "PRESS" in answer.json["message"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_a_press_whose_topic_lacks_its_last_level_is_answered(mosquitto: Mosquitto, protocol: Protocol) -> None:
    async with (
        mqtt_client(mosquitto.port, ONLINE, "facebridge/+/+/reply") as client,
        running(Bridge(mosquitto.port, protocol), known_terminal("T1", groups=("lobby",))) as bridge,
    ):
        await online(client)
        connection = bridge.connect("T1")
        for place in ("terminal/T1", "group/lobby"):
            await client.publish(f"facebridge/{place}/open", b"PRESS")
            answer = await client.wait_for(f"facebridge/{place}/reply")
            assert answer.json["outcome"] == "invalid"
            expected = f"lacks its last level: publish on facebridge/{place}/open/set"
            assert answer.json["errors"] == [{"path": "topic", "message": expected}]
        assert connection.frames == []
