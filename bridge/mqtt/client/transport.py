"""paho's client: its settings, TLS, connecting in a thread, and the end of a connection."""

import asyncio
import socket
import ssl
import threading
from contextlib import suppress
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridge.config.settings import MqttSettings, MqttTlsSettings
from bridge.mqtt.client.errors import TlsFilesError
from bridge.mqtt.client.messages import ConnackInfo, SessionOptions
from bridge.mqtt.client.packet_socket import PahoSocket

_KEEPALIVE_SECONDS = 15
"""Time without a packet before a ping. A broker that hangs is noticed within two of them. The live connection's
heartbeat is faster; this is for the intake's."""

_ADDRESS_TIMEOUT_SECONDS = 4.0
"""Time for TCP with each address of a name, and for TLS. If the first address (IPv6) does not answer, the next one
still has time within one attempt."""

_RECEIVE_MAXIMUM = 100
"""Messages that the broker may send before they are acknowledged: as many as are committed together."""

_MAXIMUM_PACKET_BYTES = 64 * 1024 * 1024
"""The largest packet that the broker may send. Commands of up to some 16 MB are carried out, larger ones are answered
with `invalid`. Beyond this limit a broker with MQTT 5 does not deliver them, so that no client can fill the memory.
Over MQTT 3.1.1 only the broker's own limit and the protocol's 256 MB apply: if the client disconnected, the broker
would deliver an unacknowledged message again and again."""

_NEVER_EXPIRES = 0xFFFFFFFF
"""The session expiry interval of a session that does not end (MQTT 5, section 3.1.2.11.2)."""

_DISCARD_BYTES = 65_536
"""Bytes that one read discards while the broker closes the connection."""


def build_client(settings: MqttSettings, options: SessionOptions) -> paho.Client:
    """Return a client that connects once."""
    is_5 = settings.protocol == "5"
    client = _Client(
        CallbackAPIVersion.VERSION2,
        client_id=options.client_id,
        clean_session=None if is_5 else not options.persistent,
        protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=options.persistent,
    )
    client.connect_timeout = _ADDRESS_TIMEOUT_SECONDS
    if settings.username is not None:
        client.username_pw_set(settings.username, settings.password.reveal() if settings.password else None)
    if (will := options.will) is not None:
        client.will_set(will.topic, will.payload, will.qos, will.retain)
    return client


class _Client(paho.Client):
    """paho's client on a `PahoSocket`."""

    def _create_socket(self) -> Any:
        return PahoSocket(super()._create_socket())  # type: ignore[arg-type]  # a socket, because `transport` is tcp


def packet_properties(packet_type: int) -> Properties:
    """Return empty MQTT 5 properties for a type of packet."""
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho has no types here


async def connect_in_thread(client: paho.Client, settings: MqttSettings, *, persistent: bool) -> None:
    """Run paho's blocking connect (name, TCP, TLS) in a daemon thread, so that a stopping process does not wait for it.

    None of the client's callbacks runs in the thread. If this call is cancelled, a connection made later is closed.

    Raises:
        TlsFilesError: a file of `mqtt.tls` cannot be used.
        OSError: the connection could not be made.
        ValueError: the host name is not valid.
    """
    connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settle(error: Exception | None) -> None:
        connection = client.socket()
        if connected.cancelled():
            if connection is not None:
                connection.close()
        elif error is None:
            connected.set_result(None)
        else:
            connected.set_exception(error)

    def work() -> None:
        error: Exception | None = None
        try:
            _connect(client, settings, persistent=persistent)
        except Exception as failed:  # noqa: BLE001  raised in the caller instead
            error = failed
        # The loop may be closed by now.
        with suppress(RuntimeError):
            connected.get_loop().call_soon_threadsafe(settle, error)

    threading.Thread(target=work, name="MQTT connect", daemon=True).start()
    await connected


def _connect(client: paho.Client, settings: MqttSettings, *, persistent: bool) -> None:
    if settings.tls is not None:
        client.tls_set_context(_tls_context(settings.tls))
    host = str(settings.host)
    if settings.protocol != "5":
        client.connect(host, settings.port, _KEEPALIVE_SECONDS)
        return
    properties = packet_properties(PacketTypes.CONNECT)
    properties.ReceiveMaximum = _RECEIVE_MAXIMUM
    properties.MaximumPacketSize = _MAXIMUM_PACKET_BYTES
    if persistent:
        properties.SessionExpiryInterval = _NEVER_EXPIRES
    client.connect(host, settings.port, _KEEPALIVE_SECONDS, clean_start=not persistent, properties=properties)


def _tls_context(settings: MqttTlsSettings) -> ssl.SSLContext:
    """Read the TLS files. This runs at each attempt, so that a renewed certificate needs no restart."""
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except OSError as error:
        raise TlsFilesError(f"mqtt.tls.ca {settings.ca} cannot be used: {_file_problem(error)}") from None
    context.sslsocket_class = _ClosingSocket
    if not settings.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if settings.certificate is not None:
        try:
            # Without a password OpenSSL would ask the console for that of an encrypted key, and wait.
            context.load_cert_chain(settings.certificate, settings.key, password="")
        except OSError as error:
            files = " with mqtt.tls.key ".join(str(file) for file in (settings.certificate, settings.key) if file)
            raise TlsFilesError(f"mqtt.tls.certificate {files} cannot be used: {_file_problem(error)}") from None
    return context


def _file_problem(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):
        return str(error.reason or "no PEM, or encrypted").lower().replace("_", " ")
    return error.strerror or type(error).__name__


class _ClosingSocket(ssl.SSLSocket):
    """A socket that closes when its handshake fails; paho leaves such a socket open."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def connack_info(session_present: bool, properties: Properties | None) -> ConnackInfo:
    """Return the content of a CONNACK."""

    def number(name: str) -> Any:
        return getattr(properties, name, None)

    def flag(name: str) -> bool | None:
        value = getattr(properties, name, None)
        return None if value is None else bool(value)

    return ConnackInfo(
        session_present=session_present,
        session_expiry=number("SessionExpiryInterval"),
        receive_maximum=number("ReceiveMaximum"),
        maximum_qos=number("MaximumQoS"),
        retain_available=flag("RetainAvailable"),
        maximum_packet=number("MaximumPacketSize"),
        assigned_id=number("AssignedClientIdentifier"),
        topic_aliases=number("TopicAliasMaximum"),
        wildcards=flag("WildcardSubscriptionAvailable"),
        keep_alive=number("ServerKeepAlive"),
        server_reference=number("ServerReference"),
    )


def duplicate_handle(connection: socket.socket) -> socket.socket:
    """Return a second handle of a connection. It stays open when paho closes the first."""
    handle = socket.socket(fileno=socket.dup(connection.fileno()))
    handle.setblocking(False)
    return handle


async def shut_down(handle: socket.socket) -> None:
    """Send the end of the stream, and read until the broker has closed its side too.

    A socket that is closed while it holds unread bytes resets the connection. A broker that is reset before it has read
    the DISCONNECT publishes the will (seen in 1 of 60 stops while messages came in).
    """
    loop = asyncio.get_running_loop()
    with handle, suppress(OSError):
        handle.shutdown(socket.SHUT_WR)
        while await loop.sock_recv(handle, _DISCARD_BYTES):
            pass
