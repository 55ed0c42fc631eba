"""The socket of the control channel, and the client's side of it.

A request is one line of JSON. The response is JSON up to the end of the connection.
"""

import asyncio
import hashlib
import os
import socket
import struct
from collections.abc import Mapping
from typing import Any

import orjson

MAX_REQUEST_BYTES = 64 * 1024
"""Far more than an approval with all of its fields."""

_RESPONSE_SECONDS = 30.0
"""A busy bridge approves a terminal in some milliseconds, after a password hash of 50 ms; the store may be locked for
some seconds."""

_PEER_CREDENTIALS = struct.Struct("3i")
"""Linux's `struct ucred`: process, user and group."""


class NoBridgeReachedError(Exception):
    """No bridge answers on this machine; the message names the cause and the remedy."""


def address(client_suffix: str) -> str:
    """Return the abstract address of the bridge on a store.

    Args:
        client_suffix: the random suffix in the store. It is not in the address itself, because every user of the
            machine can list the addresses, and the suffix protects the bridge's session at the broker.
    """
    return f"\0facebridge-{hashlib.sha256(f'control {client_suffix}'.encode()).hexdigest()[:32]}"


def peer_user_id(connection: socket.socket) -> int:
    """Return the user id of the process at the other end, as the kernel knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    user_id: int = _PEER_CREDENTIALS.unpack(credentials)[1]
    return user_id


async def request(client_suffix: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Send a request to the bridge on a store, and return its response.

    Raises:
        NoBridgeReachedError: no bridge answers, or it belongs to another user.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.setblocking(False)
    try:
        async with asyncio.timeout(_RESPONSE_SECONDS):
            await asyncio.get_running_loop().sock_connect(connection, address(client_suffix))
            owner = peer_user_id(connection)
            if owner != os.geteuid():
                raise NoBridgeReachedError(
                    f"the bridge runs as user {owner} and this command as user {os.geteuid()}: run it as the same user"
                )
            reader, writer = await asyncio.open_unix_connection(sock=connection)
            try:
                writer.write(orjson.dumps(value) + b"\n")
                answer = await reader.read(-1)
            finally:
                writer.close()
    except TimeoutError:
        raise NoBridgeReachedError(
            f"the bridge does not answer within {_RESPONSE_SECONDS:g} s: look into its log"
        ) from None
    except OSError:
        raise NoBridgeReachedError(
            "a bridge runs on this store, but not here: run this command on its machine, in its container and with the"
            " same version; or use the page or MQTT"
        ) from None
    finally:
        connection.close()
    if not answer:
        raise NoBridgeReachedError("the bridge has ended the connection: look into its log")
    response: dict[str, Any] = orjson.loads(answer)
    return response
