"""Promise 1 behind the HAProxy of examples/haproxy: the bridge, a real HAProxy, and simulated terminals."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.haproxy import SHIPPED, HAProxy
from tests.support.mosquitto import Mosquitto
from tests.support.mqtt_client import Heard, MqttClient, mqtt_client
from tests.support.network import Host

pytestmark = pytest.mark.slow

OPEN = "facebridge/terminal/T1/open/set"
REPLY = "facebridge/terminal/T1/reply"
AVAILABILITY = "facebridge/terminal/T1/availability"
EVENT = "facebridge/bridge/event"

REQUEST = """
import base64, http.client, sys
address, port, sn, password, forged = sys.argv[1:]
connection = http.client.HTTPConnection(address, int(port), timeout=10)
login = base64.b64encode(f"dev:{password}".encode()).decode()
connection.request("GET", f"/devs/{sn}", headers={"Authorization": f"Basic {login}", "X-Forwarded-For": forged})
print(connection.getresponse().status)
"""
"""A client that forges X-Forwarded-For."""


@asynccontextmanager
async def behind_haproxy(
    folder: Path, mosquitto: Mosquitto, text: str | None = None, **sections: Any
) -> AsyncIterator[tuple[BridgeProcess, HAProxy, Host, MqttClient]]:
    """Run the bridge behind HAProxy, a host at the end of a cable, and an MQTT client that receives everything."""
    terminals = {"host": "127.0.0.1", "trusted_proxies": ["127.0.0.1"], **sections.pop("terminals", {})}
    settings = configuration(mosquitto.port, terminals=terminals, commands={"deadline": 5}, **sections)
    async with (
        BridgeProcess(folder, settings).running() as bridge,
        Host().linked() as host,
        HAProxy(folder, bridge.terminals_port, text).running(host.outside) as proxy,
        mqtt_client(mosquitto.port) as client,
    ):
        await client.subscribe("facebridge/#")
        yield bridge, proxy, host, client


@asynccontextmanager
async def terminal_on(
    host: Host, proxy: HAProxy, client: MqttClient, *, tls: bool = False
) -> AsyncIterator[Callable[[], Any]]:
    """Run a terminal on the host; yields a function that stops it and returns its output."""
    url = proxy.url(host.outside, tls=tls)
    process = await host.run(
        "env",
        f"SSL_CERT_FILE={proxy.authority}",
        sys.executable,
        "-m",
        "bridge",
        "simulate",
        "--url",
        url,
        "--sn",
        "T1",
    )

    async def end() -> str:
        if process.returncode is None:
            process.terminate()
        output, _ = await process.communicate()
        return output.decode()

    try:
        await client.wait_for(AVAILABILITY, is_online, within=30)
        yield end
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def is_online(heard: Heard) -> bool:
    return heard.payload == b"online"


async def press(client: MqttClient, request_id: str) -> dict[str, Any]:
    await client.publish(OPEN, {"request_id": request_id})
    reply = await client.wait_for(REPLY, lambda one: one.json["request_id"] == request_id, within=20)
    answer: dict[str, Any] = reply.json
    return answer


async def test_haproxy_accepts_the_configuration_without_warnings(tmp_path: Path) -> None:
    proxy = HAProxy(tmp_path, 1)
    async with proxy.running():
        assert re.sub(r"\s", "", proxy.check()) in ("", "Configurationfileisvalid")


@pytest.mark.parametrize("tls", [False, True])
async def test_a_terminal_behind_it_opens_and_shows_its_own_address(
    tmp_path: Path, mosquitto: Mosquitto, tls: bool
) -> None:
    async with (
        behind_haproxy(tmp_path, mosquitto) as (_, proxy, host, client),
        terminal_on(host, proxy, client, tls=tls),
    ):
        assert (await press(client, "hello"))["outcome"] == "ok"
        state = await client.wait_for("facebridge/terminal/T1/state", lambda one: one.json["online"])
        assert state.json["address"] == host.inside


async def test_a_forged_address_is_ignored(tmp_path: Path, mosquitto: Mosquitto) -> None:
    async with behind_haproxy(tmp_path, mosquitto) as (_, proxy, host, client):

        async def ask(sn: str, password: str, forged: str) -> int:
            words = (host.outside, str(proxy.plain_port), sn, password, forged)
            process = await host.run(sys.executable, "-c", REQUEST, *words)
            output, _ = await process.communicate()
            return int(output)

        assert await ask("NEW", "123", "10.6.6.6, 127.0.0.1") == 403
        pending = await client.wait_for(EVENT, lambda one: one.json["type"] == "terminal_pending")
        assert (pending.json["sn"], pending.json["address"]) == ("NEW", host.inside)
        # The throttle counts all of them for the real address; ten are verified.
        statuses = [await ask("T1", "wrong", f"10.6.6.{number}") for number in range(11)]
        assert statuses == [401] * 10 + [429]
        refused = await client.wait_for(EVENT, lambda one: one.json.get("reason") == "wrong credentials too often")
        assert refused.json["address"] == host.inside
        # Other clients behind the same proxy are not affected.
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", REQUEST, "127.0.0.1", str(proxy.plain_port), "T1", "wrong", "10.6.6.1",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await process.communicate()
        assert int(output) == 401


async def press_on_a_pulled_cable(
    tmp_path: Path, mosquitto: Mosquitto, text: str | None, tls: bool
) -> tuple[dict[str, Any], int, float | None]:
    """Pull the cable, press, and plug the cable in after the deadline.

    Returns:
        The reply, how often the door opened, and how many seconds after the press the cable was plugged in.
    """
    async with (
        behind_haproxy(tmp_path, mosquitto, text) as (_, proxy, host, client),
        terminal_on(host, proxy, client, tls=tls) as end,
    ):
        host.pull()
        loop = asyncio.get_running_loop()
        pressed = loop.time()
        reply = await press(client, "on a pulled cable")
        # One second after the deadline: a door that opens now opens late.
        await asyncio.sleep(max(0.0, pressed + 6 - loop.time()))
        client.heard.clear()
        host.plug()
        plugged = loop.time()
        late = None
        replied = asyncio.get_running_loop().create_task(client.wait_for(REPLY, within=15))
        reconnected = asyncio.get_running_loop().create_task(client.wait_for(AVAILABILITY, is_online, within=15))
        # Either the terminal reconnects, or the old connection continues.
        done, rest = await asyncio.wait((replied, reconnected), return_when=asyncio.FIRST_COMPLETED, timeout=15)
        for task in rest:
            task.cancel()
        await asyncio.gather(*done, *rest, return_exceptions=True)
        # After an interruption of six seconds, retransmissions arrive within six seconds.
        await asyncio.sleep(max(0.0, plugged + 8 - loop.time()))
        output = await end()
        opened = max(int(number) for number in re.findall(r"opened (\d+)", output))
        if opened:
            late = plugged - pressed
        return reply, opened, late


@pytest.mark.timeout(120)
@pytest.mark.parametrize("tls", [False, True])
async def test_a_press_on_a_dead_link_behind_it_is_never_carried_out(
    tmp_path: Path, mosquitto: Mosquitto, tls: bool
) -> None:
    reply, opened, _ = await press_on_a_pulled_cable(tmp_path, mosquitto, None, tls)
    assert opened == 0, "carried out late"
    assert reply["outcome"] in ("timeout", "lost")


@pytest.mark.timeout(120)
async def test_without_tcp_ut_the_door_would_open_late(
    tmp_path: Path, mosquitto: Mosquitto, record_property: Callable[[str, object], None]
) -> None:
    """This shows that the test above can fail, and that the setting makes the difference."""
    without = SHIPPED.read_text().replace(" tcp-ut 2s", "")
    reply, opened, late = await press_on_a_pulled_cable(tmp_path, mosquitto, without, tls=False)
    record_property("counts", f"without tcp-ut: outcome {reply['outcome']}, opened {opened}, later than {late} s")
    assert opened == 1


@pytest.mark.timeout(600)
async def test_two_thousand_terminals_come_back_through_it(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    number = 2000
    admit_any = {"admit": "any", "known": {}}
    (tmp_path / "broker").mkdir()
    async with (
        # With the default limit a slow client would miss messages after the first thousand.
        Mosquitto(tmp_path / "broker", ["max_queued_messages 100000"]) as mosquitto,
        behind_haproxy(tmp_path, mosquitto, terminals=admit_any) as (bridge, proxy, _, client),
    ):
        loop = asyncio.get_running_loop()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "bridge", "simulate", "--url", proxy.url("127.0.0.1"), "--count", str(number),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip

        def online() -> int:
            last = {one.topic: one.payload for one in client.heard if one.topic.endswith("/availability")}
            return sum(payload == b"online" for topic, payload in last.items() if "/terminal/" in topic)

        async def until(fits: Callable[[int], bool]) -> float:
            began = loop.time()
            try:
                async with asyncio.timeout(180):
                    while not fits(online()):
                        await asyncio.sleep(0.25)
            except TimeoutError:
                raise AssertionError(f"{online()} of {number} are online") from None
            return loop.time() - began

        try:
            first = await until(lambda there: there == number)
            proxy.stop()
            gone = await until(lambda there: there == 0)
            await proxy.start()
            restarted = await until(lambda there: there == number)
            before = bridge.log.count("Traceback")
            proxy.reload()
            # Old connections stay for half a minute (hard-stop-after), then all terminals reconnect at once.
            stayed = await until(lambda there: there < number)
            reloaded = await until(lambda there: there == number)
            # A wrong `offline` of an old connection would arrive now.
            await asyncio.sleep(3)
            assert online() == number
            assert bridge.log.count("Traceback") == before == 0
        finally:
            process.terminate()
            await process.wait()
        record_property(
            "counts",
            json.dumps(
                {
                    "terminals": number,
                    "first, s": round(first, 1),
                    "all offline after a stop, s": round(gone, 1),
                    "after a restart, s": round(restarted, 1),
                    "stayed after a reload, s": round(stayed, 1),
                    "back after it, s": round(reloaded, 1),
                }
            ),
        )
