"""The command line of CONTRACT, section 2, as people type it."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from bridge.cli.simulate import BEHAVIOURS, names
from bridge.net.passwords import is_hash
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.mosquitto import Mosquitto, free_port
from tests.support.mqtt_client import mqtt_client
from tests.support.waiting import until


def facebridge(
    *words: str, folder: Path, given: str | None = None, environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bridge", *words],
        cwd=folder,
        input=given,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, **(environment or {})},
    )


@pytest.mark.parametrize("command", [(), ("run",), ("check",), ("demo",), ("simulate",), ("hash-password",)])
def test_every_command_has_help(command: tuple[str, ...], tmp_path: Path) -> None:
    done = facebridge(*command, "--help", folder=tmp_path)
    assert done.returncode == 0
    assert "Usage: facebridge" in done.stdout


def test_wrong_usage_ends_with_2(tmp_path: Path) -> None:
    assert facebridge("open", folder=tmp_path).returncode == 2
    assert facebridge("simulate", folder=tmp_path).returncode == 2


def test_check_says_what_is_wrong_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "mqtt: {hots: x}\ncommands: {deadline: 0}\nterminals: {username: dev, password: secret}\n"
    )
    done = facebridge("check", folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "config.yaml:1: mqtt.hots: unknown key 'hots' (did you mean 'host'?)",
        "config.yaml:2: commands.deadline: must be a number of seconds from 1 to 60",
    ]


def test_check_takes_the_configuration_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("terminals: {username: dev, password: secret}")
    done = facebridge("check", folder=tmp_path, environment={"FACEBRIDGE_CONFIG": "other.yaml"})
    assert (done.returncode, done.stdout) == (0, "other.yaml: the configuration is valid\n")


def test_run_with_a_wrong_configuration_ends_with_2(tmp_path: Path) -> None:
    done = facebridge("run", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "config.yaml: there is no such file\n")


def test_run_says_which_port_is_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = configuration(free_port(), terminals={"host": "127.0.0.1", "port": port})
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
        done = facebridge("run", folder=tmp_path)
    assert done.returncode == 1
    assert f"terminals.port: cannot listen on 127.0.0.1:{port}: Address already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_run_says_that_a_store_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "facebridge.db").write_bytes(b"no database" * 100)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(free_port())))
    done = facebridge("run", folder=tmp_path)
    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_bridge_without_its_broker_runs_says_so_once_and_ends_cleanly(
    tmp_path: Path, number: signal.Signals
) -> None:
    port = free_port()
    bridge = BridgeProcess(tmp_path, configuration(port))
    await bridge.start()
    assert f"not connected (nothing listens on 127.0.0.1:{port})" in bridge.log
    assert await asyncio.wait_for(bridge.stop(number), 5) == 0
    assert bridge.log.count("facebridge-live is not connected") == 1
    assert "Traceback" not in bridge.log


async def test_the_embedded_broker_is_said_to_be_one(tmp_path: Path) -> None:
    settings = configuration(free_port(), mqtt={"host": None})
    async with BridgeProcess(tmp_path, settings).running() as bridge:
        assert "using an embedded broker" in bridge.log
        async with mqtt_client(settings["mqtt"]["port"], "facebridge/bridge/info", protocol="3.1.1") as client:
            info = await client.wait_for("facebridge/bridge/info")
            assert "embedded broker" in info.json["warnings"][0]


async def test_the_log_can_be_json(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration(mosquitto.port, logging={"format": "json"})
    async with BridgeProcess(tmp_path, settings).running() as bridge, mqtt_client(mosquitto.port) as client:
        await client.publish("facebridge/terminal/T1/open/set", {"request_id": "follow me"})
        await bridge.wait_log("follow me")
        line = next(yaml.safe_load(line) for line in bridge.log.splitlines() if "follow me" in line)
    assert (line["sn"], line["request_id"], line["level"]) == ("T1", "follow me", "info")


async def test_check_connect_disturbs_no_running_bridge(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration(
        mosquitto.port, terminals={"host": "127.0.0.1", "port": free_port()}, web={"port": free_port()}
    )
    async with BridgeProcess(tmp_path, settings).running() as bridge:
        done = await asyncio.to_thread(facebridge, "check", "--connect", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("is in use by the running bridge") == 2
        assert "is not connected" not in bridge.log
    await mosquitto.stop()
    done = await asyncio.to_thread(facebridge, "check", "--connect", folder=tmp_path)
    assert done.returncode == 1
    assert f"nothing listens on 127.0.0.1:{mosquitto.port}" in done.stderr
    assert "FAILED  broker: " in done.stderr


def test_a_password_is_hashed(tmp_path: Path) -> None:
    done = facebridge("hash-password", folder=tmp_path, given="secret\n")
    assert done.returncode == 0
    assert is_hash(done.stdout.strip())
    assert facebridge("hash-password", folder=tmp_path, given="\n").returncode == 2


def test_the_demo_shows_one_round(tmp_path: Path) -> None:
    done = facebridge("demo", "--once", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    for shown in ("open/set", '"outcome":"ok"', "setPerson", "POST", "done"):
        assert shown in done.stdout
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"


def test_the_demo_takes_free_ports_where_the_usual_are_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8765))
            taken.listen()
        except OSError:
            pass  # somebody else has it, which serves as well
        done = facebridge("demo", "--once", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"port 8765 is in use; terminals takes \d+", done.stdout)


async def test_simulated_terminals_connect(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration(mosquitto.port, terminals={"admit": "any"})
    async with BridgeProcess(tmp_path, settings).running() as bridge, mqtt_client(mosquitto.port) as client:
        await client.subscribe("facebridge/terminal/+/availability")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "simulate", "--url", bridge.terminal_url, "--count", "20", "--sn", "SIM",
            stderr=subprocess.PIPE,
        )  # fmt: skip
        online = {f"facebridge/terminal/SIM{number}/availability" for number in range(1, 21)}
        await until(lambda: online <= {one.topic for one in client.heard if one.payload == b"online"})
        process.send_signal(signal.SIGINT)
        _, output = await process.communicate()
        assert process.returncode == 0
        assert "20 simulated terminals" in output.decode()


def test_simulated_terminals_have_names() -> None:
    assert names(1, "T") == ["T"]
    assert names(2, "T") == ["T1", "T2"]
    assert names(2, None) == ["SIM0000000001", "SIM0000000002"]
    assert set(BEHAVIOURS) == {"good", "slow", "silent", "refusing", "garbage", "dropping"}


def test_shell_completion_works(tmp_path: Path) -> None:
    environment = {"_FACEBRIDGE_COMPLETE": "bash_complete", "COMP_WORDS": "facebridge si", "COMP_CWORD": "1"}
    done = facebridge(folder=tmp_path, environment=environment)
    assert "simulate" in done.stdout
