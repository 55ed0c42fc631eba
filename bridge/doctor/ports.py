"""The listening ports: free, in use by a bridge, or in use by another program."""

import asyncio
import os
import socket
from dataclasses import dataclass

import aiohttp

from bridge.config.settings import Settings
from bridge.doctor.findings import Finding, make_finding


@dataclass(frozen=True, slots=True, kw_only=True)
class PortState:
    """The state of a port.

    Attributes:
        bridge_running: whether a Facebridge answers on it.
        problem: why a bridge could not listen on it; None if it could, or a Facebridge answers.
    """

    bridge_running: bool = False
    problem: str | None = None


async def check_ports(settings: Settings, *, bridge_running: bool) -> list[Finding]:
    """Check the ports for terminals and for HTTP.

    Args:
        settings: the configuration.
        bridge_running: whether a bridge runs on the configured store.
    """
    sections = (("terminals.port", settings.terminals), ("web.port", settings.web))
    return [
        evaluate_port(
            key,
            f"{section.host}:{section.port}",
            await inspect_port(section.host, section.port),
            bridge_running=bridge_running,
        )
        for key, section in sections
    ]


async def inspect_port(host: str, port: int) -> PortState:
    """Listen on a port for a moment. Port 0 is always free."""
    if port == 0:
        return PortState()
    try:
        addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, address = addresses[0][0], addresses[0][4]
        with socket.create_server(address[:2], family=family):
            return PortState()
    except OSError as error:
        if error.errno is not None and await _is_facebridge(host, port):
            return PortState(bridge_running=True)
        # Name resolution has negative error numbers, which `strerror` does not know.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
        return PortState(problem=f"cannot listen on {host}:{port}: {reason}")


def evaluate_port(key: str, address: str, state: PortState, *, bridge_running: bool) -> Finding:
    """Report the state of a port.

    Args:
        key: the configuration key.
        address: host and port.
        state: the port's state.
        bridge_running: whether a bridge runs on the configured store.
    """
    if state.problem is not None:
        return make_finding(
            "port_unusable", f"{key}: {state.problem}", "stop the program that uses it, or choose another port"
        )
    if state.bridge_running and not bridge_running:
        return make_finding(
            "port_of_another_bridge",
            f"{key}: {address} is in use by a Facebridge that runs on another store",
            "stop it, or choose another port",
        )
    if address.endswith(":0"):
        return make_finding("port_ok", f"{key}: the bridge chooses a free port when it starts")
    used, free = f"{key}: {address} is in use by the running bridge", f"{key}: {address} is free"
    return make_finding("port_ok", used if state.bridge_running else free)


def reachable_host(host: str) -> str:
    """Return the host of a URL at which this machine reaches a server that listens on `host`."""
    reachable = "127.0.0.1" if host in ("0.0.0.0", "") else "::1" if host == "::" else host  # noqa: S104  compared only
    return f"[{reachable}]" if ":" in reachable else reachable


async def _is_facebridge(host: str, port: int) -> bool:
    url = f"http://{reachable_host(host)}:{port}/healthz"
    timeout = aiohttp.ClientTimeout(total=3)
    for one in (url, url.replace("http", "https", 1)):
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(one, ssl=False) as response:
                return response.headers.get("Server") == "facebridge"
        except (aiohttp.ClientError, TimeoutError):
            continue
    return False
