"""`facebridge terminals …`, with and without a running bridge."""

import json
from pathlib import Path

import pytest
import yaml

from bridge.simulator.terminal import SimulatedTerminal
from bridge.store.instance_lock import instance_lock
from tests.command_line.simulated import connected_terminals
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.facebridge import audit_records, facebridge
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.postgresql import PostgreSQL
from tests.support.waiting import until


async def test_a_waiting_terminal_is_shown_approved_connected_and_forgotten(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge, connected_terminals(bridge, "T1", "NEW1") as (_, new):
        await until(lambda: "terminal NEW1 from 127.0.0.1 waits for approval" in bridge.log)
        assert "`facebridge terminals approve NEW1`" in bridge.log
        await until(lambda: "terminal T1 (Front door) connected" in bridge.log)
        listed = await facebridge(tmp_path, "terminals", "list", "--json")
        found = {one["sn"]: one for one in map(json.loads, listed.stdout.splitlines())}
        assert {sn: one["state"] for sn, one in found.items()} == {"NEW1": "pending", "T1": "online", "T2": "offline"}
        assert found["NEW1"]["address"] == "127.0.0.1"
        assert found["NEW1"]["since"] is not None
        shown = (await facebridge(tmp_path, "terminals", "list")).stdout
        assert "NEW1" in shown.splitlines()[1]
        assert "approve a waiting terminal with `scripts/run terminals approve NEW1`" in shown
        only = (await facebridge(tmp_path, "terminals", "list", "--pending")).stdout
        assert "NEW1" in only
        assert "T1" not in only

        words = ("--name", "Back door", "--area", "Yard", "--group", "lobby", "--group", "yard")
        approved = await facebridge(tmp_path, "terminals", "approve", "NEW1", *words)
        assert (approved.code, approved.stdout) == (0, "terminal NEW1 (Back door) is approved\n"), approved.stderr
        await new.wait_connected()
        listed = await facebridge(tmp_path, "terminals", "list", "--json")
        found = {one["sn"]: one for one in map(json.loads, listed.stdout.splitlines())}
        assert (found["NEW1"]["state"], found["NEW1"]["origin"]) == ("online", "approved")
        assert (found["NEW1"]["area"], found["NEW1"]["groups"]) == ("Yard", ["lobby", "yard"])

        async with mqtt_client(mosquitto.port) as client:
            await client.subscribe("facebridge/terminal/NEW1/availability", "facebridge/bridge/event")
            await client.wait_for("facebridge/terminal/NEW1/availability", lambda heard: heard.payload == b"online")
            forgotten = await facebridge(tmp_path, "terminals", "forget", "NEW1")
            assert (forgotten.code, forgotten.stdout) == (0, "NEW1 (Back door) is forgotten\n"), forgotten.stderr
            await client.wait_for("facebridge/bridge/event", lambda heard: heard.json["type"] == "terminal_forgotten")
        records = await audit_records(tmp_path, "--terminal", "NEW1", complete=lambda found: len(found) == 2)
        assert [(one["command"], one["source"], one["outcome"]) for one in records] == [
            ("admit", "facebridge terminals approve", "ok"),
            ("forget", "facebridge terminals forget", "ok"),
        ]
        assert all(one["user"] for one in records)


async def test_a_mistyped_sn_is_noticed_and_the_waiting_terminals_are_named(
    mosquitto: Mosquitto, tmp_path: Path
) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge, connected_terminals(bridge, "NEW1"):
        await until(lambda: "NEW1 from 127.0.0.1 waits" in bridge.log)
        approved = await facebridge(tmp_path, "terminals", "approve", "NEW7")
        first, second = approved.stdout.splitlines()
        assert first == "terminal NEW7 is approved"
        assert second == (
            "no terminal with this SN has connected since the bridge started: check the SN; waiting for approval: NEW1"
            " (127.0.0.1)"
        )


async def test_wrong_requests_are_refused_as_over_mqtt(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running():
        for with_bridge in (True, False):
            if not with_bridge:
                await process.stop()
            for words, message in (
                (("approve", "T1"), "Error: terminal T1 is listed in the configuration: change it there\n"),
                (("forget", "T1"), "Error: terminal T1 is listed in the configuration: change it there\n"),
                (("forget", "T9"), "Error: terminal T9 is not known: check the SN\n"),
                (
                    ("approve", "T9", "--username", "x"),
                    "Error: password: is missing: give both username and password, or null for both\n",
                ),
            ):
                refused = await facebridge(tmp_path, "terminals", *words)
                assert (refused.code, refused.stderr) == (1, message), with_bridge


@pytest.mark.parametrize("words", [("approve", "a b"), ("approve", "T9", "--group", "all"), ("forget", "ä")])
async def test_ill_formed_names_are_wrong_usage(folder: Path, words: tuple[str, ...]) -> None:
    assert (await facebridge(folder, "terminals", *words)).code == 2


async def test_approving_and_forgetting_without_a_bridge(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    approved = await facebridge(tmp_path, "terminals", "approve", "NEW1", "--name", "Gate", "--group", "lobby")
    assert approved.code == 0, approved.stderr
    assert approved.stdout.splitlines() == [
        "terminal NEW1 (Gate) is approved",
        "no bridge is running on this store: the next one that starts knows the terminal",
    ]
    listed = await facebridge(tmp_path, "terminals", "list", "--json")
    assert [json.loads(line)["sn"] for line in listed.stdout.splitlines()] == ["T1", "T2", "NEW1"]
    async with process.running() as bridge, connected_terminals(bridge, "NEW1") as (new,):
        await new.wait_connected()
    forgotten = await facebridge(tmp_path, "terminals", "forget", "NEW1")
    assert forgotten.stdout == "NEW1 (Gate) is forgotten\n"
    async with process.running() as bridge, connected_terminals(bridge, "NEW1"):
        await until(lambda: "NEW1 from 127.0.0.1 waits" in bridge.log)


async def test_secrets_come_from_standard_input_and_only_a_hash_is_stored(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge:
        words = ("approve", "NEW1", "--username", "gate", "--key", "--password")
        approved = await facebridge(tmp_path, "terminals", *words, stdin="the-key\nthe-password\n")
        assert approved.code == 0, approved.stderr
        url = f"ws://gate:the-password@127.0.0.1:{bridge.terminals_port}/devs/"
        async with SimulatedTerminal(url, "NEW1").running() as terminal:
            await terminal.wait_connected()
        assert "the-password" not in bridge.log
        empty = await facebridge(tmp_path, "terminals", "approve", "NEW1", "--password", stdin="")
        assert empty.code == 2
        assert "the password is empty" in empty.stderr
    stored = b"".join(file.read_bytes() for file in tmp_path.glob("facebridge.db*"))
    assert b"the-key" in stored
    assert b"the-password" not in stored


async def test_empty_values_remove_what_was_given(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(mosquitto.port)))
    words = ("approve", "NEW1", "--name", "Gate", "--area", "Yard", "--group", "lobby")
    await facebridge(tmp_path, "terminals", *words)
    kept = await facebridge(tmp_path, "terminals", "approve", "NEW1", "--name", "Door")
    assert kept.stdout.startswith("terminal NEW1 (Door) is changed\n")

    async def stored() -> tuple[str | None, str | None, list[str]]:
        listed = await facebridge(tmp_path, "terminals", "list", "--json")
        one = json.loads(listed.stdout.splitlines()[-1])
        return one["name"], one["area"], one["groups"]

    assert await stored() == ("Door", "Yard", ["lobby"])
    await facebridge(tmp_path, "terminals", "approve", "NEW1", "--name", "", "--area", "", "--group", "")
    assert await stored() == (None, None, [])


async def test_a_bridge_that_does_not_answer_here_is_named(mosquitto: Mosquitto, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(mosquitto.port)))
    await facebridge(tmp_path, "terminals", "list")
    async with instance_lock(f"sqlite:///{tmp_path}/facebridge.db"):
        for words in (("list",), ("approve", "NEW1"), ("forget", "T1")):
            refused = await facebridge(tmp_path, "terminals", *words)
            assert refused.code == 1
            assert "a bridge runs on this store, but not here" in refused.stderr


@pytest.mark.slow
async def test_terminals_in_postgresql(mosquitto: Mosquitto, postgresql: PostgreSQL, tmp_path: Path) -> None:
    settings = configuration(mosquitto.port, store={"url": await postgresql.new_url()})
    process = BridgeProcess(tmp_path, settings)
    async with process.running() as bridge, connected_terminals(bridge, "NEW1") as (new,):
        await until(lambda: "NEW1 from 127.0.0.1 waits" in bridge.log)
        assert (await facebridge(tmp_path, "terminals", "approve", "NEW1")).code == 0
        await new.wait_connected()
    assert (await facebridge(tmp_path, "terminals", "forget", "NEW1")).stdout == "NEW1 is forgotten\n"
