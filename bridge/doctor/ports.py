"""The listening ports: free, held by a bridge, or taken by somebody else."""

import asyncio
import os
import socket
from dataclasses import dataclass

import aiohttp

from bridge.doctor.findings import Finding, found


@dataclass(frozen=True, slots=True, kw_only=True)
class PortState:
    """How a port is.

    Attributes:
        bridge_running: a Facebridge answers there.
        problem: why one cannot listen there; None where one can, or a Facebridge does.
    """

    bridge_running: bool = False
    problem: str | None = None


async def look_at_port(host: str, port: int) -> PortState:
    """Try to listen, for a moment; 0 is always free."""
    if port == 0:
        return PortState()
    try:
        found_addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, address = found_addresses[0][0], found_addresses[0][4]
        with socket.create_server(address[:2], family=family):
            return PortState()
    except OSError as error:
        if error.errno is not None and await _is_facebridge(host, port):
            return PortState(bridge_running=True)
        # The numbers of name resolution are negative, and not the system's.
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
        return PortState(problem=f"cannot listen on {host}:{port}: {reason}")


def judge_port(key: str, where: str, state: PortState, *, bridge_running: bool) -> Finding:
    """Say how a port is.

    Args:
        key: of the configuration.
        where: host and port.
        state: how it is.
        bridge_running: whether a bridge runs on our store.
    """
    if state.problem is not None:
        return found("port_unusable", f"{key}: {state.problem}", "stop who has it, or choose another port")
    if state.bridge_running and not bridge_running:
        return found(
            "port_of_another_bridge",
            f"{key}: {where} is held by a Facebridge that runs on another store",
            "stop it, or choose another port",
        )
    if where.endswith(":0"):
        return found("port_ok", f"{key}: a free port is taken when the bridge starts")
    how = "is held by the running bridge" if state.bridge_running else "is free"
    return found("port_ok", f"{key}: {where} {how}")


def reachable_host(host: str) -> str:
    """Return where something that listens on `host` is reached from this machine."""
    there = "127.0.0.1" if host in ("0.0.0.0", "") else "::1" if host == "::" else host  # noqa: S104  compared only
    return f"[{there}]" if ":" in there else there


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
