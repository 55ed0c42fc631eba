"""The app from its start to an opened door, with a stand-in for the Supervisor and a real broker."""

import asyncio
import os
import signal
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from bridge.app import StartError
from bridge.home_assistant_app.supervisor import (
    NoMqttServiceError,
    Supervisor,
    SupervisorAwayError,
    SupervisorRefusedError,
)
from bridge.home_assistant_app.waiting import answering_the_watchdog
from bridge.model.secret import Secret
from bridge.simulator.client import ConnectionOptions
from bridge.simulator.terminal import SimulatedTerminal
from tests.home_assistant_app.app_process import TOKEN, AppProcess, SupervisorStandIn, mqtt_service
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import mqtt_client
from tests.support.waiting import until

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "ha_addon" / "config.yaml").read_text())
NO_SERVICE = "Home Assistant has no MQTT service yet"


def options(**sections: Any) -> dict[str, Any]:
    """Return the default options, without folders that only the container has."""
    made = {**CONFIG["options"], "photos": {"folders": []}}
    return {**made, **{name: {**made[name], **one} if isinstance(one, dict) else one for name, one in sections.items()}}


@pytest.fixture
async def supervisor() -> AsyncIterator[SupervisorStandIn]:
    async with SupervisorStandIn().running() as stand_in:
        yield stand_in


def terminal(app: AppProcess, sn: str, password: str) -> SimulatedTerminal:
    options = ConnectionOptions(username="dev", password=password, first_retry_seconds=0.05, max_retry_seconds=0.2)
    return SimulatedTerminal(f"ws://127.0.0.1:{app.terminals_port}/devs/", sn, options=options)


async def status_of(app: AppProcess, path: str, login: tuple[str, str] | None = None) -> int:
    headers = {} if login is None else {"Authorization": aiohttp.encode_basic_auth(*login)}
    # The Supervisor uses the container's address.
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(
            f"http://127.0.0.1:{app.web_port}{path}", headers={"Host": f"172.30.33.5:{app.web_port}"}
        ) as answer,
    ):
        return answer.status


async def test_from_nothing_to_an_opened_door(tmp_path: Path, supervisor: SupervisorStandIn) -> None:
    broker = Mosquitto(tmp_path, anonymous=False)
    broker.set_passwords({"addons": "from-the-supervisor", "test": "test"})
    app = AppProcess(tmp_path / "data", supervisor.url, options())
    async with broker, app.running():
        # The broker app is not installed yet.
        await app.wait_log(NO_SERVICE)
        assert await status_of(app, "/healthz") == 200
        assert await status_of(app, "/readyz") == 503
        supervisor.service = mqtt_service(broker.port)
        await app.wait_log("ready: ")
        assert f"MQTT 127.0.0.1:{broker.port}, web" in app.log
        password = app.shown_password()
        async with terminal(app, "T1", password).running() as door:
            await app.wait_log("T1")
            await door.wait_refused()
            async with mqtt_client(broker.port, login=("test", "test")) as client:
                await client.publish("facebridge/bridge/admit/set", {"sn": "T1", "name": "Front door"})
                await door.wait_connected()
                await client.subscribe("facebridge/terminal/T1/#")
                await client.publish("facebridge/terminal/T1/open/set", {"request_id": "first"})
                reply = await client.wait_for(
                    "facebridge/terminal/T1/reply", lambda one: one.json["request_id"] == "first"
                )
            assert reply.json["outcome"] == "ok"
            assert door.opened == 1
        assert await status_of(app, "/healthz") == 200
        assert await status_of(app, "/readyz") == 200
        assert await status_of(app, "/api/terminals") == 401
        assert await status_of(app, "/metrics") == 401
        assert await app.stop() == 0
    assert app.log.count(NO_SERVICE) == 1
    assert "from-the-supervisor" not in app.log
    assert TOKEN not in app.log
    assert app.log.count(password) == 1
    assert "set terminals.password on the app's Configuration page" in app.log
    assert "secrets.yaml" not in app.log, "the app's users cannot open this file"
    assert yaml.safe_load((app.data / "secrets.yaml").read_text()) == {"terminal_password": password}
    for secret in ("config.yaml", "secrets.yaml", "facebridge.db"):
        assert stat.S_IMODE((app.data / secret).stat().st_mode) == 0o600
    assert "Traceback" not in app.log


async def test_a_restart_keeps_the_password_and_does_not_show_it(tmp_path: Path, supervisor: SupervisorStandIn) -> None:
    async with Mosquitto(tmp_path) as broker:
        supervisor.service = mqtt_service(broker.port)
        app = AppProcess(tmp_path / "data", supervisor.url, options(known_terminals=[{"sn": "T1", "groups": "lobby"}]))
        async with app.running():
            await app.wait_log("ready: ")
            password = app.shown_password()
            assert await app.stop() == 0
            await app.start()
            await app.wait_log("ready: ")
            assert password not in app.log
            assert "Enter on each terminal" not in app.log
            async with terminal(app, "T1", password).running() as door:
                await door.wait_connected()


async def test_a_configured_password_is_used_and_none_is_generated(
    tmp_path: Path, supervisor: SupervisorStandIn
) -> None:
    async with Mosquitto(tmp_path) as broker:
        supervisor.service = mqtt_service(broker.port)
        own = options(terminals={"password": "knock-knock"}, known_terminals=[{"sn": "T1"}])
        async with AppProcess(tmp_path / "data", supervisor.url, own).running() as app:
            await app.wait_log("ready: ")
            async with terminal(app, "T1", "knock-knock").running() as door:
                await door.wait_connected()
            assert not (app.data / "secrets.yaml").exists()
            assert "knock-knock" not in app.log


async def test_a_configured_broker_needs_no_supervisor(tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as broker:
        own = options(mqtt={"host": "127.0.0.1", "port": broker.port})
        async with AppProcess(tmp_path / "data", "http://127.0.0.1:9", own, token=None).running() as app:
            await app.wait_log(f"MQTT 127.0.0.1:{broker.port}, web")
            assert "Supervisor" not in app.log


async def test_without_a_broker_and_a_token_the_log_names_the_remedy(tmp_path: Path) -> None:
    async with AppProcess(tmp_path / "data", "http://127.0.0.1:9", options(), token=None).running() as app:
        assert await app.ended() == 1
    assert "Set mqtt.host" in app.log


async def test_it_waits_for_a_supervisor_that_is_not_ready(tmp_path: Path, supervisor: SupervisorStandIn) -> None:
    # aiohttp itself repeats a request once after a broken connection.
    supervisor.broken, supervisor.not_ready = 2, 1
    async with Mosquitto(tmp_path) as broker:
        supervisor.service = mqtt_service(broker.port)
        async with AppProcess(tmp_path / "data", supervisor.url, options()).running() as app:
            await app.wait_log("ready: ")
            assert "the Supervisor closed the connection during the request" in app.log, (supervisor.requests, app.log)
            assert "the Supervisor is not ready: System is not ready with state: startup; trying again" in app.log


async def test_it_waits_for_an_unreachable_supervisor(tmp_path: Path) -> None:
    stand_in = SupervisorStandIn()
    async with Mosquitto(tmp_path) as broker:
        stand_in.service = mqtt_service(broker.port)
        async with AppProcess(tmp_path / "data", stand_in.url, options()).running() as app:
            await app.wait_log("the Supervisor cannot be reached: Connect call failed")
            async with stand_in.running():
                await app.wait_log("ready: ")


async def test_a_wrong_token_is_logged_and_ends_the_app(tmp_path: Path, supervisor: SupervisorStandIn) -> None:
    async with AppProcess(tmp_path / "data", supervisor.url, options(), token="wrong" * 8).running() as app:
        assert await app.ended() == 1
    assert "the Supervisor rejects this app's token (HTTP 403); start this app again" in app.log
    assert "wrongwrong" not in app.log


async def test_only_a_port_in_use_is_reported_as_such() -> None:
    with socket.create_server(("0.0.0.0", 0)) as used:
        port = used.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot listen on port {port}: "):
            async with answering_the_watchdog(port):
                pytest.fail("nothing can listen there")
    with pytest.raises(ConnectionResetError):
        async with answering_the_watchdog(port):
            raise ConnectionResetError


async def test_a_request_to_a_slow_supervisor_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        supervisor = Supervisor(f"http://127.0.0.1:{silent.getsockname()[1]}", Secret(TOKEN), timeout_seconds=0.2)
        with pytest.raises(SupervisorAwayError, match=r"no answer within 0\.2 s"):
            await supervisor.mqtt_service()


@pytest.mark.parametrize("data", [{}, {"host": "x"}, {"host": "", "port": 1}, {"host": "x", "port": "1883"}, []])
async def test_a_service_without_host_and_port_is_unusable(data: Any, supervisor: SupervisorStandIn) -> None:
    supervisor.service = data
    with pytest.raises(SupervisorAwayError, match="named no host and port"):
        await Supervisor(supervisor.url, Secret(TOKEN)).mqtt_service()


async def test_responses_of_the_supervisor_are_distinguished(supervisor: SupervisorStandIn) -> None:
    with pytest.raises(NoMqttServiceError):
        await Supervisor(supervisor.url, Secret(TOKEN)).mqtt_service()
    with pytest.raises(SupervisorRefusedError):
        await Supervisor(supervisor.url, Secret("x")).mqtt_service()
    supervisor.service = mqtt_service(1883)
    service = await Supervisor(supervisor.url, Secret(TOKEN)).mqtt_service()
    assert (service.host, service.port, service.username, service.tls) == ("127.0.0.1", 1883, "addons", False)
    assert "from-the-supervisor" not in repr(service)


async def test_faults_name_the_option_and_the_exit_code_is_2(tmp_path: Path, supervisor: SupervisorStandIn) -> None:
    wrong = options(commands={"deadline": 90}, mqtt={"password": "hunter2"}, known_terminals=[{"sn": "T 1"}])
    async with AppProcess(tmp_path / "data", supervisor.url, wrong).running() as app:
        assert await app.ended() == 2
        assert "option commands.deadline: must be a number of seconds from 1 to 60" in app.log
        assert "option mqtt.username: must be given if password is given" in app.log
        assert "option known_terminals.T 1: an SN has 1 to 64 letters, digits, _ and -" in app.log
        assert "correct this on the app's Configuration page" in app.log
        assert "hunter2" not in app.log
        assert supervisor.requests == 0, "reported at once, with or without a broker"
        # A generated password that was not shown is not kept.
        assert not (app.data / "secrets.yaml").exists()
        supervisor.service = mqtt_service(1)
        app.write_options(options())
        await app.start()
        await app.wait_log("Enter on each terminal")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "options.json is not JSON"), ("[]", "options: must contain sections"), ("\xff", "is not JSON")],
)
async def test_unreadable_options_are_reported(tmp_path: Path, content: str, message: str) -> None:
    async with AppProcess(tmp_path / "data", "http://127.0.0.1:9", content).running() as app:
        assert await app.ended() == 2
    assert message in app.log
    assert "Traceback" not in app.log


async def test_a_missing_options_file_is_reported(tmp_path: Path) -> None:
    app = AppProcess(tmp_path / "data", "http://127.0.0.1:9", "{}")
    (app.data / "options.json").unlink()
    async with app.running():
        assert await app.ended() == 1
    assert "options.json cannot be read: No such file or directory" in app.log


@pytest.mark.parametrize("when", [NO_SERVICE, "ready: "])
async def test_sigterm_ends_the_app_within_five_seconds(
    tmp_path: Path, supervisor: SupervisorStandIn, when: str
) -> None:
    async with Mosquitto(tmp_path) as broker:
        supervisor.service = mqtt_service(broker.port) if when == "ready: " else None
        async with AppProcess(tmp_path / "data", supervisor.url, options()).running() as app:
            await app.wait_log(when)
            assert await asyncio.wait_for(app.stop(), 5) == 0


@pytest.mark.parametrize("when", [NO_SERVICE, "ready: "])
async def test_sigterm_ends_the_first_process_of_a_container(
    tmp_path: Path, supervisor: SupervisorStandIn, when: str
) -> None:
    """The kernel delivers a signal to the first process of a namespace only if the process has a handler."""
    async with Mosquitto(tmp_path) as broker:
        supervisor.service = mqtt_service(broker.port) if when == "ready: " else None
        app = AppProcess(tmp_path / "data", supervisor.url, options())
        await app.start("unshare", "--pid", "--fork", "--kill-child")
        await app.wait_log(when)
        os.kill(app.first_child(), signal.SIGTERM)
        assert await asyncio.wait_for(app.ended(), 5) == 0


async def test_sigterm_ends_the_app_before_its_first_log_line(tmp_path: Path) -> None:
    app = AppProcess(tmp_path / "data", "http://127.0.0.1:9", options())
    await app.start("unshare", "--pid", "--fork", "--kill-child")
    await until(lambda: app.first_child_or_none() is not None)
    pid = app.first_child()
    await until(lambda: _handles(pid, signal.SIGTERM))
    assert app.log == ""
    os.kill(pid, signal.SIGTERM)
    assert await asyncio.wait_for(app.ended(), 5) == 0


def _handles(pid: int, number: signal.Signals) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


async def test_the_http_api_accepts_the_login_of_the_options(tmp_path: Path, supervisor: SupervisorStandIn) -> None:
    async with Mosquitto(tmp_path) as broker:
        supervisor.service = mqtt_service(broker.port)
        own = options(web={"username": "admin", "password": "opensesame"})
        async with AppProcess(tmp_path / "data", supervisor.url, own).running() as app:
            await app.wait_log("ready: ")
            assert await status_of(app, "/api/terminals", ("admin", "opensesame")) == 200
            assert await status_of(app, "/api/terminals", ("nobody", "")) == 401
