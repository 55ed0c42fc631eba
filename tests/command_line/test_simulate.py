"""`facebridge simulate` says why terminals cannot connect."""

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.environment import program_environment
from tests.support.facebridge import facebridge
from tests.support.logged_process import LoggedProcess
from tests.support.mosquitto import Mosquitto
from tests.support.ports import free_port


class Simulation(LoggedProcess):
    """`facebridge simulate` as a process."""

    async def start(self) -> None:
        raise NotImplementedError

    @asynccontextmanager
    async def at(self, url: str, *words: str) -> AsyncIterator["Simulation"]:
        command = ("-m", "bridge", "simulate", "--url", url, *words)
        await self._start(sys.executable, *command, environment={**program_environment(), "PYTHONUNBUFFERED": "1"})
        try:
            yield self
        finally:
            assert await self.stop(signal.SIGINT) == 0


async def test_the_reason_of_a_refused_connection_is_printed(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge:
        server = f"127.0.0.1:{bridge.terminals_port}"
        for url, words, lines in (
            (
                f"ws://dev:123@{server}/devs/",
                ("--sn", "NEW1"),
                [
                    "NEW1 cannot connect: 403: the password is right, and the terminal waits for approval. On",
                    "On the bridge's machine: scripts/run terminals approve NEW1",
                ],
            ),
            (
                f"ws://dev:wrong@{server}/devs/",
                ("--count", "3"),
                ["and 2 more cannot connect: 401: wrong user or password"],
            ),
            (f"ws://dev:123@{server}/doors/", (), ["cannot connect: 404: wrong path: it ends with /devs/ unless"]),
            (f"wss://dev:123@{server}/devs/", (), [f"cannot connect: {server} does not use TLS: use ws://"]),
            (
                f"ws://dev:123@127.0.0.1:{free_port()}/devs/",
                (),
                ["cannot connect: nothing listens on 127.0.0.1:", "is the bridge running"],
            ),
            ("ws://dev:123@host.invalid:8765/devs/", (), ["cannot connect: the host name host.invalid cannot be"]),
        ):
            async with Simulation().at(url, *words) as simulation:
                for line in lines:
                    await simulation.wait_log(line)


async def test_an_approved_terminal_connects_within_seconds(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge, Simulation().at(bridge.terminal_url, "--sn", "NEW1") as simulation:
        await simulation.wait_log("waits for approval")
        assert (await facebridge(tmp_path, "terminals", "approve", "NEW1")).code == 0
        await simulation.wait_log("connected 1/1")


async def test_a_reason_is_printed_once_although_the_terminal_tries_again(mosquitto: Mosquitto, tmp_path: Path) -> None:
    process = BridgeProcess(tmp_path, configuration(mosquitto.port))
    async with process.running() as bridge, Simulation().at(bridge.terminal_url, "--sn", "NEW1") as simulation:
        await simulation.wait_log("refused 3")
        assert simulation.log.count("waits for approval") == 1


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8765", "http://127.0.0.1:8765/devs/", "ws://", "ws://127.0.0.1:x/devs/", "ws://127.0.0.1:99999/"]
)
async def test_an_address_of_another_form_is_wrong_usage(tmp_path: Path, url: str) -> None:
    result = await facebridge(tmp_path, "simulate", "--url", url)
    assert result.code == 2
    assert "must begin with ws:// or wss://, as ws://USER:PASSWORD@HOST:PORT/devs/" in result.stderr
