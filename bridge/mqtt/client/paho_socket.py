"""A paho client's socket in the event loop, in place of paho's own thread."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

import paho.mqtt.client as paho

from bridge.mqtt.client.reasons import LOST
from bridge.mqtt.client.sockets import acknowledge, set_up


class PahoSocket:
    """Reads and writes for one connection of a client, from when it is connected until it is closed.

    Attributes:
        connection: the socket; None before and after.
    """

    def __init__(
        self,
        client: paho.Client,
        *,
        on_close: Callable[[str], None],
        on_garbage: Callable[[str], None],
        acknowledges_at_once: bool = True,
    ) -> None:
        """Prepare it.

        Args:
            client: whose.
            on_close: told, in words for people, once paho has closed it; paho's own reasons come before.
            on_garbage: told what it is where the broker sent no MQTT; the connection is of no use any more.
            acknowledges_at_once: have the kernel acknowledge every segment at once; else as it does by default.
        """
        self.connection: socket.socket | None = None
        self._client = client
        self._on_close = on_close
        self._on_garbage = on_garbage
        self._quick = acknowledges_at_once
        self._loop = asyncio.get_running_loop()
        self._writing = False
        self._reading = False

    def adopt(self) -> None:
        """Take the connected socket over from the thread; until here none of paho's callbacks has run.

        Raises:
            ConnectionResetError: it is gone again.
        """
        connection = cast("socket.socket | None", self._client.socket())
        if connection is None:
            raise ConnectionResetError
        self.connection = connection
        set_up(connection)
        self._client.on_socket_close = self._closes
        self._loop.add_reader(connection, self._read)
        self.flush()

    def flush(self) -> None:
        """Write what waits; where the socket takes no more, go on when it does."""
        if self._reading:
            # Inside a callback paho's lock is held, and writing would wait for it for ever; `_read` writes afterwards.
            return
        if self.connection is not None and self._client.want_write() and not self._writing:
            self._client.loop_write()
        if self.connection is None or self._client.want_write() == self._writing:
            return
        self._writing = not self._writing
        if self._writing:
            self._loop.add_writer(self.connection, self._write)
        else:
            self._loop.remove_writer(self.connection)

    def close(self) -> None:
        """Close it at once; nobody is told."""
        # Else paho would tell of the closing once it is collected, when nobody knows the socket any more.
        self._client.on_socket_close = None
        connection = cast("socket.socket | None", self._client.socket())
        self.connection = None
        if connection is not None and connection.fileno() >= 0:
            self._forget(connection)
            connection.close()

    def _read(self) -> None:
        self._reading = True
        try:
            self._client.loop_read()
            # What TLS has decrypted already makes the socket no more readable.
            while isinstance(self.connection, ssl.SSLSocket) and self.connection.pending():
                self._client.loop_read()
        except Exception as error:  # noqa: BLE001  a broken broker can make paho's parser raise anything
            self._on_garbage(f"the broker sent what is no MQTT ({type(error).__name__})")
            return
        finally:
            self._reading = False
        if self.connection is not None:
            acknowledge(self.connection, at_once=self._quick)
        self.flush()

    def _write(self) -> None:
        self._client.loop_write()
        self.flush()

    def _closes(self, _client: paho.Client, _userdata: object, connection: Any) -> None:
        self._forget(connection)
        self.connection = None
        # paho says why in its `on_disconnect`, in the same breath.
        self._loop.call_soon(self._on_close, LOST)

    def _forget(self, connection: socket.socket) -> None:
        self._loop.remove_reader(connection)
        if self._writing:
            self._loop.remove_writer(connection)
            self._writing = False
