"""`facebridge check --connect`: tries what the configuration names, beside a running bridge without disturbing it."""

import asyncio
import os
import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass
from random import SystemRandom

import aiohttp

from bridge.config.settings import MqttSettings, Settings, StoreSettings
from bridge.hub.clock import Clock
from bridge.mqtt.connection import NOT_YET, MqttConnection
from bridge.store.check import check_store

_PATIENCE = 12.0
"""Seconds for the broker: one more than a connection attempt takes at most."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of trying one thing.

    Attributes:
        what: was tried.
        fine: whether it works.
        message: how it is, or what is wrong.
    """

    what: str
    fine: bool
    message: str


async def check_surroundings(settings: Settings) -> list[Finding]:
    """Try the broker, the store and the listening ports."""
    return [
        await _check_broker(settings.mqtt),
        await _check_store(settings.store),
        await _check_port("terminals.port", settings.terminals.host, settings.terminals.port),
        await _check_port("web.port", settings.web.host, settings.web.port),
    ]


async def _check_broker(settings: MqttSettings) -> Finding:
    if settings.host is None:
        return Finding("broker", fine=True, message="an embedded one is used, for trying out only")
    connected = asyncio.Event()

    async def on_connect() -> None:
        connected.set()

    connection = MqttConnection(
        settings,
        # An id of its own: with the bridge's, the broker would throw a running one out.
        client_id=f"{settings.client_id}-check-{secrets.token_hex(4)}",
        clock=Clock(),
        random=SystemRandom(),
        persistent=False,
        will=None,
        on_message=lambda _: None,
        on_connect=on_connect,
        on_disconnect=lambda: None,
    )
    running = asyncio.get_running_loop().create_task(connection.run())
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            # A status that nobody announces; a command line may look again and again.
            while not connected.is_set() and connection.status.problem == NOT_YET:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    fine, problem = connected.is_set(), connection.status.problem
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    where = f"{settings.host}:{settings.port}"
    return Finding("broker", fine, f"connected to {where} with MQTT {settings.protocol}" if fine else str(problem))


async def _check_store(settings: StoreSettings) -> Finding:
    problem = await check_store(settings.url.reveal())
    return Finding("store", problem is None, problem or f"{settings.shown_url} can be used")


async def _check_port(key: str, host: str, port: int) -> Finding:
    where = f"{host}:{port}"
    if port == 0:
        return Finding(key, fine=True, message="a free port is taken when the bridge starts")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        with socket.create_server(found[0][4][:2], family=found[0][0]):
            return Finding(key, fine=True, message=f"{where} is free")
    except OSError as error:
        if error.errno is not None and await _is_facebridge(host, port):
            return Finding(key, fine=True, message=f"{where} is in use by a running Facebridge")
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
        return Finding(key, fine=False, message=f"cannot listen on {where}: {reason}")


async def _is_facebridge(host: str, port: int) -> bool:
    there = "127.0.0.1" if host in ("0.0.0.0", "") else "::1" if host == "::" else host  # noqa: S104  compared only
    url = f"http://[{there}]:{port}/healthz" if ":" in there else f"http://{there}:{port}/healthz"
    timeout = aiohttp.ClientTimeout(total=3)
    for one in (url, url.replace("http", "https", 1)):
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(one, ssl=False) as response:
                return response.headers.get("Server") == "facebridge"
        except (aiohttp.ClientError, TimeoutError):
            continue
    return False
