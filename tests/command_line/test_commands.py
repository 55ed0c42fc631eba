"""The commands except `persons`, `log`, `backup` and `restore`, which have a file of their own."""

import asyncio
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
from tests.support.facebridge import facebridge, facebridge_process, python_process
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.ports import free_port
from tests.support.waiting import until

CREDENTIALS = "terminals: {username: dev, password: secret}"


async def test_facebridge_is_a_program_with_help_and_shell_completion(tmp_path: Path) -> None:
    async with asyncio.TaskGroup() as group:
        shown = group.create_task(facebridge_process(tmp_path, "--help"))
        completion = {"_FACEBRIDGE_COMPLETE": "bash_complete", "COMP_WORDS": "facebridge si", "COMP_CWORD": "1"}
        completed = group.create_task(facebridge_process(tmp_path, environment=completion))
    assert (shown.result().code, shown.result().stderr) == (0, "")
    assert "Usage: facebridge" in shown.result().stdout
    assert "simulate" in completed.result().stdout


@pytest.mark.parametrize("command", [(), ("run",), ("check",), ("demo",), ("simulate",), ("hash-password",)])
async def test_every_command_has_help(command: tuple[str, ...], tmp_path: Path) -> None:
    result = await facebridge(tmp_path, *command, "--help")
    assert result.code == 0
    assert "Usage: facebridge" in result.stdout


async def test_the_help_imports_no_large_library(tmp_path: Path) -> None:
    loaded = await python_process(tmp_path, "-c", "import sys, bridge.cli.main; print(*sys.modules)")
    assert loaded.code == 0, loaded.stderr
    assert not set(loaded.stdout.split()) & {
        "aiohttp",
        "alembic",
        "cryptography",
        "paho",
        "PIL",
        "rich",
        "sqlalchemy",
        "yaml",
    }


async def test_wrong_usage_exits_with_2(tmp_path: Path) -> None:
    assert (await facebridge(tmp_path, "open")).code == 2
    assert (await facebridge(tmp_path, "simulate")).code == 2


async def test_check_prints_the_faults_on_stderr(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"mqtt: {{hots: x}}\ncommands: {{deadline: 0}}\n{CREDENTIALS}\n")
    result = await facebridge(tmp_path, "check")
    assert result.code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "config.yaml:1: mqtt.hots: unknown key 'hots' (did you mean 'host'?)",
        "config.yaml:2: commands.deadline: must be a number of seconds from 1 to 60",
    ]


async def test_an_environment_variable_names_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other.yaml").write_text(CREDENTIALS)
    monkeypatch.setenv("FACEBRIDGE_CONFIG", "other.yaml")
    result = await facebridge(tmp_path, "check")
    assert (result.code, result.stdout) == (0, "other.yaml: the configuration is valid\n")


async def test_run_with_a_wrong_configuration_exits_with_2(tmp_path: Path) -> None:
    result = await facebridge_process(tmp_path, "run")
    assert result.code == 2
    assert result.stderr == (
        f"config.yaml: there is no such file in {tmp_path}: name the configuration with -c FILE or in"
        " FACEBRIDGE_CONFIG\n"
    )


@pytest.mark.parametrize("section", ["terminals", "web"])
async def test_run_reports_a_port_in_use_and_does_not_connect_to_the_broker(tmp_path: Path, section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as broker:
        broker.setblocking(False)
        port = taken.getsockname()[1]
        settings = configuration(broker.getsockname()[1], **{section: {"host": "127.0.0.1", "port": port}})
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
        result = await facebridge_process(tmp_path, "run")
        # The bridge that uses the port may have the same topics.
        with pytest.raises(BlockingIOError):
            broker.accept()
    assert result.code == 1
    assert f"{section}.port: cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr
    assert "Traceback" not in result.stderr


async def test_run_reports_a_damaged_store(tmp_path: Path) -> None:
    (tmp_path / "facebridge.db").write_bytes(b"no database" * 100)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(free_port())))
    result = await facebridge_process(tmp_path, "run")
    assert result.code == 1
    assert "cannot be used" in result.stderr
    assert f"{tmp_path}/facebridge.db" in result.stderr
    assert "Traceback" not in result.stderr


async def test_an_unreachable_store_is_named_without_its_password(tmp_path: Path) -> None:
    port = free_port()
    url = f"postgresql://doors:hidden@127.0.0.1:{port}/faces"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(configuration(free_port(), store={"url": url})))
    for words in (("run",), ("persons", "list"), ("terminals", "list"), ("log",), ("backup", "copy.db")):
        # `run` handles signals, which only the main thread of a process can do.
        result = await (facebridge_process if words == ("run",) else facebridge)(tmp_path, *words)
        assert result.code == 1
        assert f"postgresql://doors@127.0.0.1:{port}/faces: the store cannot be reached (" in result.stderr
        assert "hidden" not in result.stderr


async def test_a_bridge_without_its_broker_starts_reports_it_once_and_stops_cleanly(tmp_path: Path) -> None:
    port = free_port()

    async def start_and_stop(number: signal.Signals) -> None:
        folder = tmp_path / number.name
        folder.mkdir()
        bridge = BridgeProcess(folder, configuration(port))
        await bridge.start()
        assert f"not connected (nothing listens on 127.0.0.1:{port})" in bridge.log
        assert await asyncio.wait_for(bridge.stop(number), 5) == 0
        assert len(re.findall(r"facebridge-live-[0-9a-f]{16} is not connected", bridge.log)) == 1
        assert "Traceback" not in bridge.log

    # At the same time, because each waits five seconds for its broker.
    async with asyncio.TaskGroup() as group:
        for number in (signal.SIGTERM, signal.SIGINT):
            group.create_task(start_and_stop(number))


async def test_an_embedded_broker_is_announced_and_published_as_a_warning(tmp_path: Path) -> None:
    settings = configuration(free_port(), mqtt={"host": None})
    async with BridgeProcess(tmp_path, settings).running() as bridge:
        assert "using an embedded broker" in bridge.log
        async with mqtt_client(settings["mqtt"]["port"], "facebridge/bridge/info", protocol="3.1.1") as client:
            info = await client.wait_for("facebridge/bridge/info")
            assert "embedded broker" in info.json["warnings"][0]


async def test_mqtt_3_is_published_as_a_warning(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration(mosquitto.port, mqtt={"protocol": "3.1.1"})
    async with (
        BridgeProcess(tmp_path, settings).running(),
        mqtt_client(mosquitto.port, "facebridge/bridge/info") as client,
    ):
        info = await client.wait_for("facebridge/bridge/info")
        assert [warning for warning in info.json["warnings"] if "mqtt.protocol is 3.1.1" in warning]


async def test_the_log_can_be_json(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration(mosquitto.port, logging={"format": "json"})
    async with BridgeProcess(tmp_path, settings).running() as bridge, mqtt_client(mosquitto.port) as client:
        await client.publish("facebridge/terminal/T1/open/set", {"request_id": "follow me"})
        await bridge.wait_log("follow me")
        line = next(yaml.safe_load(line) for line in bridge.log.splitlines() if "follow me" in line)
    assert (line["sn"], line["request_id"], line["level"]) == ("T1", "follow me", "info")


async def test_check_connect_does_not_disturb_a_running_bridge(tmp_path: Path, mosquitto: Mosquitto) -> None:
    settings = configuration(
        mosquitto.port, terminals={"host": "127.0.0.1", "port": free_port()}, web={"port": free_port()}
    )
    async with BridgeProcess(tmp_path, settings).running() as bridge:
        result = await facebridge(tmp_path, "check", "--connect")
        assert result.code == 0, result.stderr
        assert result.stdout.count("is in use by the running bridge") == 2
        assert "is not connected" not in bridge.log
    await mosquitto.stop()
    result = await facebridge(tmp_path, "check", "--connect")
    assert result.code == 1
    assert f"nothing listens on 127.0.0.1:{mosquitto.port}" in result.stderr
    assert "FAILED  broker: " in result.stderr


async def test_a_password_is_hashed(tmp_path: Path) -> None:
    result = await facebridge(tmp_path, "hash-password", stdin="secret\n")
    assert result.code == 0
    assert is_hash(result.stdout.strip())
    assert (await facebridge(tmp_path, "hash-password", stdin="\n")).code == 2


async def test_the_demo_shows_one_round(tmp_path: Path) -> None:
    result = await facebridge_process(tmp_path, "demo", "--once")
    assert result.code == 0, result.stdout + result.stderr
    shown_texts = (
        "the broker is embedded in the demo", "Front door now lets in: Ada, Grace", "Back door now lets in: Ada, Grace",
        "open/set", '"outcome":"ok"', "setPerson", "POST", "done",
    )  # fmt: skip
    for shown in shown_texts:
        assert shown in result.stdout
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == [], "no file is left"


async def test_the_demo_uses_free_ports_if_its_usual_ports_are_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(("127.0.0.1", 8765))
            taken.listen()
        except OSError:
            pass  # another program uses the port, which serves the test as well
        result = await facebridge_process(tmp_path, "demo", "--once")
    assert result.code == 0, result.stdout + result.stderr
    assert re.search(r"port 8765 is in use; terminals uses \d+", result.stdout)


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


def test_names_of_simulated_terminals() -> None:
    assert names(1, "T") == ["T"]
    assert names(2, "T") == ["T1", "T2"]
    assert names(2, None) == ["SIM0000000001", "SIM0000000002"]
    assert set(BEHAVIOURS) == {"good", "slow", "silent", "refusing", "garbage", "dropping", "reporting"}
