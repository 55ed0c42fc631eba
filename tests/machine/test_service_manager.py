"""Notifications to the service manager."""

import asyncio
import socket
from pathlib import Path

import pytest

from bridge.net.service_manager import notify_service_manager
from tests.support.bridge_process import BridgeProcess, configuration
from tests.support.mosquitto import Mosquitto


async def test_the_bridge_reports_ready_and_stopping(
    tmp_path: Path, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        bridge = BridgeProcess(tmp_path, configuration(mosquitto.port))
        async with bridge.running(), asyncio.timeout(20):
            assert await loop.sock_recv(manager, 100) == b"READY=1"
            _, writer = await asyncio.open_connection("127.0.0.1", bridge.terminals_port)
            writer.close()
            await bridge.stop()
            assert await loop.sock_recv(manager, 100) == b"STOPPING=1"


def test_an_abstract_socket_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(5)
        manager.bind(f"\0{tmp_path}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
        notify_service_manager("READY=1")
        assert manager.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "/nobody/listens/here", "/" + "x" * 300])
def test_an_unreachable_service_manager_is_ignored(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify_service_manager("READY=1")
