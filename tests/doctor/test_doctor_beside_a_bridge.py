"""The doctor while a bridge runs: it reports on the terminals, and does not disturb the bridge."""

import asyncio
import shutil
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from bridge.config.settings import TokenSettings, WebSettings
from bridge.doctor.listening import Observations
from bridge.doctor.running_bridge import read_bridge_health
from bridge.doctor.terminals import TerminalContext, evaluate_terminals
from bridge.model.secret import Secret
from bridge.mqtt.topics import Topics
from bridge.net.passwords import hash_password
from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.doctor.doctor_system import configuration_at, run_doctor
from tests.support.bridge_process import BridgeProcess
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.ports import free_port
from tests.support.waiting import until
from tests.support.web import WebServerUnderTest


def ports() -> dict[str, Any]:
    return {"terminals": {"host": "127.0.0.1", "port": free_port()}, "web": {"port": free_port()}}


async def test_a_healthy_bridge_is_not_disturbed(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration_at(mosquitto.port, **ports())
    async with AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(BridgeProcess(tmp_path, settings).running())
        terminals = [SimulatedTerminal(bridge.terminal_url, sn) for sn in ("T1", "T2")]
        for terminal in terminals:
            await stack.enter_async_context(terminal.running())
            await terminal.wait_connected()
        client = await stack.enter_async_context(mqtt_client(mosquitto.port, "facebridge/#"))

        async def press(number: int) -> str:
            await client.publish("facebridge/terminal/T1/open/set", {"request_id": f"r{number}"})
            reply = await client.wait_for(
                "facebridge/terminal/T1/reply", lambda one: one.json["request_id"] == f"r{number}"
            )
            return str(reply.json["outcome"])

        assert await press(0) == "ok"
        running = asyncio.get_running_loop().create_task(run_doctor(tmp_path, settings, listen_seconds=2))
        pressed = 0
        while not running.done():
            pressed += 1
            assert await press(pressed) == "ok"
            await asyncio.sleep(0.1)
        found = await running
        (tmp_path / "elsewhere").mkdir()
        elsewhere = await run_doctor(tmp_path / "elsewhere", settings)
        assert terminals[0].opened == pressed + 1
        assert [one.connections for one in (terminal.statistics() for terminal in terminals)] == [1, 1]
        assert bridge.log.count("connected to the broker as") == 2
        assert "is not connected" not in bridge.log
        assert "doctor" not in bridge.log
        own = [one for one in client.heard if "doctor" in one.topic]
        assert all(one.topic.startswith("facebridge/doctor/") for one in own)
        assert not {one.topic for one in client.heard} - {one.topic for one in own} - {
            f"facebridge/{rest}"
            for rest in (
                "bridge/availability", "bridge/info", "bridge/heartbeat", "terminal/T1/open/set", "terminal/T1/reply",
                "terminal/T1/state", "terminal/T2/state", "terminal/T1/availability", "terminal/T2/availability",
            )
        }  # fmt: skip
    assert found.wrong == []
    assert {"bridge_online", "terminals_ok", "terminals_share_password", "store_ok"} <= found.codes
    assert [one.what for one in found.all if one.code == "port_ok"] == [
        f"terminals.port: 127.0.0.1:{settings['terminals']['port']} is in use by the running bridge",
        f"web.port: 127.0.0.1:{settings['web']['port']} is in use by the running bridge",
    ]
    assert {"port_of_another_bridge", "bridge_elsewhere"} <= elsewhere.codes
    async with mqtt_client(mosquitto.port, "#") as after:
        await after.publish("x", "the end")
        await after.wait_for("x")
        assert not [one.topic for one in after.heard if "doctor" in one.topic]


async def test_badly_behaving_terminals_are_named(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration_at(mosquitto.port, **ports())
    async with AsyncExitStack() as stack:
        bridge = await stack.enter_async_context(BridgeProcess(tmp_path, settings).running())
        client = await stack.enter_async_context(mqtt_client(mosquitto.port, "facebridge/#"))
        reconnecting = SimulatedTerminal(
            bridge.terminal_url, "T1", options=ConnectionOptions(first_retry_seconds=0.2, max_retry_seconds=0.2)
        )
        wrong = SimulatedTerminal(
            bridge.terminal_url.replace(":123@", ":wrong@"),
            "T2",
            options=ConnectionOptions(first_retry_seconds=0.5, max_retry_seconds=0.5),
        )
        unknown = SimulatedTerminal(
            bridge.terminal_url, "STRANGER", options=ConnectionOptions(first_retry_seconds=0.5, max_retry_seconds=0.5)
        )
        for terminal in (reconnecting, wrong, unknown):
            await stack.enter_async_context(terminal.running())
        await reconnecting.wait_connected()
        await until(lambda: any(one.json["terminals"]["pending"] for one in client.heard if one.topic.endswith("info")))
        running = asyncio.get_running_loop().create_task(run_doctor(tmp_path, settings, listen_seconds=4))
        while not running.done():
            await asyncio.sleep(1.2)
            await reconnecting.disconnect()
            await reconnecting.wait_connected()
        found = await running
    assert found.wrong == ["terminals_wrong_credentials"]
    assert "T2 from 127.0.0.1" in found.of("terminals_wrong_credentials").what
    assert "STRANGER from 127.0.0.1" in found.of("terminals_pending").what
    assert "T1 (Front door)" in found.of("terminals_reconnecting").what
    assert "T2" in found.of("terminals_offline").what


async def test_a_second_bridge_on_the_same_topics(tmp_path: Path, mosquitto: Mosquitto) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    settings = configuration_at(mosquitto.port, **ports())
    other = configuration_at(mosquitto.port, mqtt={"client_id": "other"})
    async with AsyncExitStack() as stack:
        bridges = [BridgeProcess(tmp_path / "one", settings), BridgeProcess(tmp_path / "two", other)]
        await asyncio.gather(*(stack.enter_async_context(bridge.running()) for bridge in bridges))
        found = await run_doctor(tmp_path / "one", settings, listen_seconds=4)
    assert "bridges_share_topics" in found.wrong


@pytest.mark.slow
async def test_two_bridges_of_one_client_id(tmp_path: Path, mosquitto: Mosquitto) -> None:
    """The end of their client ids is in the store, so one must have a copy of the other's store."""
    (tmp_path / "one").mkdir()
    settings = configuration_at(mosquitto.port, **ports())
    async with BridgeProcess(tmp_path / "one", settings).running():
        pass
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    async with (
        BridgeProcess(tmp_path / "one", settings).running() as bridge,
        BridgeProcess(tmp_path / "two", configuration_at(mosquitto.port)).running(),
    ):
        await bridge.wait_log("same client id")
        # They disconnect each other in turn; at some moments the first one is connected.
        found = await run_doctor(tmp_path / "one", settings)
        while "client_id_shared" not in found.codes:
            found = await run_doctor(tmp_path / "one", settings)
    assert "mqtt.client_id" in found.of("client_id_shared").to_do


async def test_a_bridge_without_its_broker(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration_at(mosquitto.port, **ports())
    async with BridgeProcess(tmp_path, settings).running() as bridge:
        await mosquitto.stop()
        await bridge.wait_log("is not connected")
        found = await run_doctor(tmp_path, settings)
    assert set(found.wrong) == {"broker_unreachable", "bridge_not_ready"}


async def test_a_port_of_another_program(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration_at(mosquitto.port, terminals={"host": "127.0.0.1", "port": mosquitto.port})
    found = await run_doctor(tmp_path, settings)
    assert found.wrong == ["port_unusable"]


NOW = datetime(2026, 11, 24, 8, tzinfo=UTC)
TOPICS = Topics("facebridge")


def context(
    states: dict[str, dict[str, Any]], *, started: timedelta = timedelta(days=1), **details: Any
) -> TerminalContext:
    heard = Observations(seconds=6)
    heard.values[TOPICS.bridge_info] = orjson.dumps({"started_at": (NOW - started).isoformat()})
    for sn, state in states.items():
        heard.values[TOPICS.terminal_state(sn)] = orjson.dumps(state)
        heard.retained.add(TOPICS.terminal_state(sn))
    values: dict[str, Any] = {
        "observed": heard, "topics": TOPICS, "known": dict.fromkeys(states), "sharing": (), "answered": (),
        "has_proxies": False, "metrics": None, "now": NOW,
    }  # fmt: skip
    return TerminalContext(**{**values, **details})


def codes(terminals: TerminalContext) -> set[str]:
    return {one.code for one in evaluate_terminals(terminals)}


def test_offline_terminals() -> None:
    away: dict[str, Any] = {"online": False, "last_seen": None}
    assert codes(context({"T1": away})) == {"terminals_never_seen"}
    assert codes(context({"T1": away}, answered={"T1"})) == {"terminals_offline_long"}
    assert codes(context({"T1": away}, started=timedelta(minutes=1))) == {"terminals_offline"}
    seen = {"online": False, "last_seen": (NOW - timedelta(minutes=2)).isoformat()}
    assert codes(context({"T1": seen})) == {"terminals_offline"}
    seen = {"online": False, "last_seen": (NOW - timedelta(hours=2)).isoformat()}
    assert codes(context({"T1": seen})) == {"terminals_offline_long"}


def test_terminals_behind_one_address() -> None:
    states = {f"T{number}": {"online": True, "address": "10.0.0.1"} for number in range(4)}
    assert codes(context(states)) == {"terminals_one_address"}
    assert codes(context(states, has_proxies=True)) == {"terminals_ok"}
    apart = {f"T{number}": {"online": True, "address": f"10.0.0.{number}"} for number in range(4)}
    assert codes(context(apart)) == {"terminals_ok"}


def test_takeovers() -> None:
    def taken_over(*addresses: tuple[str, str]) -> TerminalContext:
        found = context({"T1": {"online": True}})
        for address, previous in addresses:
            event = {"type": "terminal_replaced", "sn": "T1", "address": address, "previous_address": previous}
            found.observed.events.append(event)
        return found

    assert codes(taken_over(("10.0.0.1", "10.0.0.1"))) == {"terminals_ok"}, "its network was interrupted"
    assert codes(taken_over(("10.0.0.1", "10.0.0.1"), ("10.0.0.1", "10.0.0.1"))) == {"terminals_replaced"}
    found = evaluate_terminals(taken_over(("10.0.0.9", "10.0.0.1")))
    assert [one.code for one in found] == ["terminals_replaced"]
    assert "T1 (1 times, from 10.0.0.1 and 10.0.0.9)" in found[0].what


def test_a_shared_password_is_a_hint() -> None:
    states = {"T1": {"online": True}, "T2": {"online": True}}
    assert codes(context(states, sharing=["T1"])) == {"terminals_ok"}
    assert codes(context(states, sharing=["T1", "T2"])) == {"terminals_ok", "terminals_share_password"}


def test_other_findings_about_terminals() -> None:
    refusing = {"online": True, "persons": {"refused": 3}}
    assert codes(context({"T1": refusing})) == {"terminals_persons_refused"}
    assert codes(context({})) == {"terminals_none"}
    gone = context({"T1": {"online": True}, "GONE": {"online": False}}, known={"T1": None})
    assert codes(gone) == {"topics_left_over"}
    turned_away = context({"T1": {"online": True}}, metrics={"facebridge_terminals_refused_total": 12.0})
    assert codes(turned_away) == {"terminals_turned_away"}
    garbage = context({"T1": {"online": True, "persons": 7, "address": {"a": 1}, "last_seen": []}})
    garbage.observed.values[TOPICS.bridge_info] = b"\xff{"
    assert codes(garbage) == {"terminals_ok"}


@pytest.mark.parametrize("is_hashed", [False, True])
async def test_metrics_are_read_with_a_token_that_is_known(is_hashed: bool) -> None:
    token = hash_password("a-token") if is_hashed else "a-token"
    tokens = {"doctor": TokenSettings(hash=Secret(token), role="operator")}
    site = WebServerUnderTest(tokens=tokens)
    async with site.open():
        settings = WebSettings(
            host="127.0.0.1", port=site.server.port, url=None, username=None, password=None, tokens=tokens
        )
        health = await read_bridge_health(settings)
    assert health.answers
    assert (health.metrics is None) is is_hashed
