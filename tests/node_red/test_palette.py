"""The nodes of `node-red-contrib-facebridge` in real Node-REDs, over MQTT 5 and 3.1.1."""

import base64
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import aiohttp
import pytest
import pytest_asyncio

from bridge.simulator.behaviour import Behaviour, Refusal
from bridge.simulator.faces import sample_photo
from bridge.simulator.terminal import SimulatedTerminal
from tests.node_red.palette import OUTPUTS, PaletteSystem, install, pack, palette_system
from tests.support.node_red import NodeRed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Protocol = Literal["5", "3.1.1"]
PROTOCOLS = pytest.mark.parametrize("protocol", ["5", "3.1.1"])
PRESS: dict[str, dict[str, Any]] = {"press": {"floor": 3}}


def person(person_id: str) -> dict[str, Any]:
    photo = base64.b64encode(sample_photo(int(person_id), (48, 64))).decode()
    return {"id": person_id, "name": f"Name of {person_id}", "photo": photo}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["5", "4"])
async def node_red(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeRed]:
    """A Node-RED of each supported major version, with the package."""
    user_directory = tmp_path_factory.mktemp("node-red")
    install(pack(tmp_path_factory.mktemp("package")), user_directory)
    process = NodeRed(request.param, user_directory)
    try:
        await process.start()
        yield process
    finally:
        await process.stop()


@pytest_asyncio.fixture
async def system(node_red: NodeRed, tmp_path: Path) -> AsyncIterator[PaletteSystem]:
    async with palette_system(node_red, tmp_path) as system:
        yield system


@PROTOCOLS
async def test_each_outcome_of_a_press_has_its_output(system: PaletteSystem, protocol: Protocol) -> None:
    async with system.flow(protocol, "facebridge-open", PRESS, scope="terminal", target="T1", command="open"):
        await system.node_red.press("press")
        assert (await system.sent(1, "offline"))["payload"]["delivered"] is False
        async with system.terminal_connected() as terminal:
            assert terminal.opened == 0
            await system.node_red.press("press")
            done = await system.sent(0, "ok")
            assert terminal.opened == 1
            assert done["floor"] == 3, "properties of the message are kept"
            assert done["payload"]["sn"] == "T1"
            terminal.behaviour = Behaviour(refusal=Refusal(7, "no power"))
            await system.node_red.press("press")
            assert (await system.sent(1, "refused"))["payload"]["message"] == "no power"
            terminal.behaviour = Behaviour(silent=True)
            await system.node_red.press("press")
            await system.sent(2, "timeout")
    presses = [one for one in system.client.heard if one.topic == "facebridge/terminal/T1/open/set"]
    assert [(one.qos, one.retain) for one in presses] == [(0, False)] * 4
    now = datetime.now(UTC).timestamp()
    assert all(now - 60 < one.json["asked_at"] <= now for one in presses)
    assert len({one.json["request_id"] for one in presses}) == 4
    responses = [one for one in system.client.heard if one.topic == "facebridge-replies/node-red/node"]
    assert len(responses) == (4 if protocol == "5" else 0)
    assert sum(len(system.messages(output)) for output in range(3)) == 4, "each press ends once"


async def test_a_press_without_broker_is_not_sent_later(system: PaletteSystem) -> None:
    async with (
        system.terminal_connected() as terminal,
        system.flow("5", "facebridge-open", PRESS, scope="terminal", target="T1", command="open"),
    ):
        log_before = len(system.node_red.log)
        await system.broker.stop()
        await system.node_red.wait_logged("Disconnected from broker", log_before)
        await system.node_red.press("press")
        await system.sent(1, "not_sent")
        log_before = len(system.node_red.log)
        await system.broker.start()
        await system.node_red.wait_logged("Connected to broker", log_before)
        # The bridge answers `expired` until it has measured the new connection.
        for number in range(1, 30):
            await system.node_red.press("press")
            await system.node_red.wait_shown(lambda _: True, "a reply", number=number + 1)
            if system.messages(0):
                break
        assert terminal.opened == len(system.messages(0)) == 1


async def test_a_press_without_bridge_gets_no_answer(system: PaletteSystem) -> None:
    async with system.flow("5", "facebridge-open", PRESS, scope="terminal", target="T1", command="open", timeout=1):
        await system.bridge.stop()
        await system.node_red.press("press")
        await system.sent(2, "no_answer")
        await system.bridge.start()


@PROTOCOLS
async def test_a_group_ends_with_its_worst_outcome(system: PaletteSystem, protocol: Protocol) -> None:
    async with (
        system.terminal_connected("T1") as terminal,
        system.flow(protocol, "facebridge-open", PRESS, scope="group", target="lobby", command="open"),
    ):
        await system.node_red.press("press")
        summary = await system.sent(1, "offline")
        assert summary["payload"]["outcomes"] == {"ok": 1, "offline": 1}
        async with system.terminal_connected("T2"):
            await system.node_red.press("press")
            await system.sent(0, "ok")
        assert terminal.opened == 2
        assert sum(len(system.messages(output)) for output in range(3)) == 2


async def test_the_target_can_come_from_the_message(system: PaletteSystem) -> None:
    presses = {"T2": {"sn": "T2"}, "mistyped": {"sn": "T9"}, "wrong": {"sn": "T1/../T2"}}
    properties = {"scope": "terminal", "target": "sn", "targetType": "msg", "command": "reboot"}
    async with (
        system.terminal_connected("T2") as terminal,
        system.flow("5", "facebridge-open", presses, **properties),
    ):
        await system.node_red.press("T2")
        assert (await system.sent(0, "ok"))["sn"] == "T2"
        assert terminal.rebooted == 1
        await system.node_red.press("mistyped")
        assert (await system.sent(1, "invalid"))["payload"]["errors"][0]["path"] == "sn"
        log_before = len(system.node_red.log)
        await system.node_red.press("wrong")
        await system.node_red.wait_logged("SN or group: must have", log_before)
        assert not [one for one in system.client.topics() if ".." in one]


@PROTOCOLS
async def test_a_person_is_stored_and_then_done(system: PaletteSystem, protocol: Protocol) -> None:
    presses: dict[str, dict[str, Any]] = {
        "one": {"payload": person("1001")},
        "wrong": {"payload": {"id": "1002"}},
        "nothing": {"payload": 3},
    }
    async with system.flow(protocol, "facebridge-person", presses, scope="terminal", target="T1", action="set",
                           person="payload", personType="msg"):  # fmt: skip
        await system.node_red.press("one")
        await system.sent(1, "accepted")
        assert not system.messages(0)
        async with system.terminal_connected() as terminal:
            assert (await system.sent(0, "ok"))["payload"]["person_id"] == "1001"
            assert set(terminal.persons) == {"1001"}
            await system.node_red.press("wrong")
            assert (await system.sent(2, "invalid"))["payload"]["errors"]
            log_before = len(system.node_red.log)
            await system.node_red.press("nothing")
            await system.node_red.wait_logged("person: must be", log_before)
    changes = [one for one in system.client.heard if one.topic == "facebridge/terminal/T1/person/set"]
    assert {one.qos for one in changes} == {1}
    assert all("asked_at" in one.json for one in changes)


@PROTOCOLS
async def test_a_final_reply_is_recognised_after_a_restart_of_the_flow(
    system: PaletteSystem, protocol: Protocol
) -> None:
    flow: dict[str, Any] = {"scope": "terminal", "target": "T1", "action": "set"}
    presses = {"one": {"payload": person("1001"), "floor": 3}}
    async with system.flow(protocol, "facebridge-person", presses, person="payload", personType="msg", **flow):
        await system.node_red.press("one")
        await system.sent(1, "accepted")
    async with (
        system.flow(protocol, "facebridge-person", presses, person="payload", personType="msg", **flow),
        system.terminal_connected(),
    ):
        done = await system.sent(0, "ok")
        assert done["payload"]["person_id"] == "1001"
        assert "floor" not in done


async def test_persons_of_a_group_are_listed_and_removed(system: PaletteSystem) -> None:
    common: dict[str, Any] = {"person": "payload", "personType": "msg"}
    async with system.terminal_connected("T1") as first, system.terminal_connected("T2"):
        two = {"two": {"payload": [person("1001"), person("1002")]}}
        async with system.flow("5", "facebridge-person", two, scope="group", target="lobby", action="set", **common):
            await system.node_red.press("two")
            await system.sent(0, "ok", number=4)
            assert set(first.persons) == {"1001", "1002"}
        ask: dict[str, dict[str, Any]] = {"all": {"payload": ""}, "one": {"payload": "1002"}}
        async with system.flow("5", "facebridge-person", ask, scope="terminal", target="T1", action="get", **common):
            await system.node_red.press("all")
            listed = (await system.sent(0, "ok", number=5))["payload"]["persons"]
            assert {one["id"] for one in listed} == {"1001", "1002"}
            await system.node_red.press("one")
            listed = (await system.sent(0, "ok", number=6))["payload"]["persons"]
            assert [one["id"] for one in listed] == ["1002"]
        away: dict[str, dict[str, Any]] = {"ids": {"payload": ["1001"]}, "none": {"payload": ""}}
        async with system.flow(
            "5", "facebridge-person", away, scope="terminal", target="T1", action="remove", **common
        ):
            await system.node_red.press("ids")
            assert (await system.sent(0, "ok", number=7))["payload"]["command"] == "removePerson"
            assert set(first.persons) == {"1002"}
            log_before = len(system.node_red.log)
            await system.node_red.press("none")
            await system.node_red.wait_logged("person: must be", log_before)
        async with system.flow(
            "5", "facebridge-person", {"go": {"payload": ""}}, scope="terminal", target="T1", action="sync", **common
        ):
            await system.node_red.press("go")
            assert (await system.sent(0, "ok", number=8))["payload"]["command"] == "syncPersons"


@PROTOCOLS
async def test_events_come_out_by_kind(system: PaletteSystem, protocol: Protocol) -> None:
    async with system.flow(protocol, "facebridge-events", {}, target="T1"):
        async with system.terminal_connected("T1"), system.terminal_connected("T2"):
            await system.client.publish("facebridge/terminal/T2/open/set", {"request_id": "other"})
            await system.client.publish("facebridge/terminal/T1/open/set", {"request_id": "mine"})
            reply = await system.sent(2, "ok")
        assert reply["payload"]["request_id"] == "mine"
        await system.node_red.wait_shown(
            lambda _: [one["payload"] for one in system.messages(0) if one["sn"] == "T1"][-2:] == ["online", "offline"],
            "the availability of T1",
        )
        assert [one["payload"] for one in system.messages(0) if one["sn"] is None] == ["online"]
        assert {one["payload"]["sn"] for one in system.messages(1)} == {"T1"}


async def test_events_of_unknown_terminals_come_out(system: PaletteSystem) -> None:
    async with (
        system.flow("5", "facebridge-events", {}, target=""),
        SimulatedTerminal(system.bridge.terminal_url, "T7").running(),
    ):
        await system.node_red.wait_shown(
            lambda shown: shown.node_id == "out3" and "terminal_pending" in shown.text, "the event"
        )


async def test_the_editor_gets_nodes_help_texts_and_examples(node_red: NodeRed) -> None:
    async with aiohttp.ClientSession(node_red.url, raise_for_status=True) as http:
        async with http.get("/nodes", headers={"Accept": "application/json"}) as answer:
            (found,) = [one for one in await answer.json() if one["module"] == "node-red-contrib-facebridge"]
        assert set(found["types"]) == OUTPUTS.keys()
        assert found["enabled"]
        assert "err" not in found
        for language, text in (("en-US", "add or change"), ("zh-CN", "添加或修改")):
            async with http.get(f"/locales/{found['id']}?lng={language}") as answer:
                assert (await answer.json())["facebridge"]["action"]["set"] == text
            async with http.get(f"/nodes/{found['id']}", headers={"Accept-Language": language}) as answer:
                assert 'data-help-name="facebridge-events"' in await answer.text()
        async with http.get("/library/examples/flows/node-red-contrib-facebridge/zh-CN") as answer:
            assert "open-a-door" in json.dumps(await answer.json())
