"""paho's client, set up for one connection and connected without blocking the event loop."""

import asyncio
import threading
from contextlib import suppress

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from bridge.config.settings import MqttSettings
from bridge.mqtt.client.messages import Will
from bridge.mqtt.client.tls import context_of

_KEEPALIVE = 15
"""Seconds without a packet before a ping; a broker that hangs shows within two of them. The live connection's heartbeat
is quicker, this is for the intake's."""

_ADDRESS_TIMEOUT = 4.0
"""Seconds for TCP with each address of a name, and for TLS: a dead first address (IPv6) leaves the next its turn within
the time that an attempt has."""

_RECEIVE_MAXIMUM = 100
"""Messages the broker may send ahead of their acknowledgements: as many as are committed together."""

_MAXIMUM_PACKET = 64 * 1024 * 1024
"""Bytes of a packet that is still read: one far above what is obeyed (some 16 MB) gets its `invalid`; beyond that the
broker keeps it away (MQTT 5), so that nobody fills the memory. Over 3.1.1 only the broker's own limit and the
protocol's 256 MB hold: to hang up would bring an unacknowledged one back for ever."""

_KEPT_FOR_EVER = 0xFFFFFFFF
"""The session expiry interval that means never (MQTT 5, 3.1.2.11.2)."""


def build_client(settings: MqttSettings, client_id: str, *, persistent: bool, will: Will | None) -> paho.Client:
    """Return a client that connects once, and acknowledges by itself unless the broker keeps its session."""
    is_5 = settings.protocol == "5"
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=client_id,
        clean_session=None if is_5 else not persistent,
        protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
        reconnect_on_failure=False,
        manual_ack=persistent,
    )
    client.connect_timeout = _ADDRESS_TIMEOUT
    # paho's own limit knows nothing of the broker's; the session keeps that.
    client.max_inflight_messages_set(0)
    if settings.username is not None:
        client.username_pw_set(settings.username, settings.password.reveal() if settings.password else None)
    if will is not None:
        client.will_set(will.topic, will.payload, will.qos, will.retain)
    return client


async def connect_in_thread(client: paho.Client, settings: MqttSettings, *, persistent: bool) -> None:
    """Run paho's blocking connect (name, TCP, TLS) in a thread that nothing waits for when the bridge stops.

    None of the client's callbacks runs there. When this is cancelled, a connection that is made later is closed.

    Raises:
        TlsFilesError: a file of `mqtt.tls` cannot be used.
        OSError: there is no connection.
        ValueError: nor can there be one with this name.
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
        except Exception as failed:  # noqa: BLE001  told to whoever waits
            error = failed
        # The loop may be closed by now.
        with suppress(RuntimeError):
            connected.get_loop().call_soon_threadsafe(settle, error)

    threading.Thread(target=work, name="MQTT connect", daemon=True).start()
    await connected


def _connect(client: paho.Client, settings: MqttSettings, *, persistent: bool) -> None:
    if settings.tls is not None:
        client.tls_set_context(context_of(settings.tls))
    host = str(settings.host)
    if settings.protocol != "5":
        client.connect(host, settings.port, _KEEPALIVE)
        return
    properties = packet_properties(PacketTypes.CONNECT)
    properties.ReceiveMaximum = _RECEIVE_MAXIMUM
    properties.MaximumPacketSize = _MAXIMUM_PACKET
    if persistent:
        properties.SessionExpiryInterval = _KEPT_FOR_EVER
    client.connect(host, settings.port, _KEEPALIVE, clean_start=not persistent, properties=properties)


def packet_properties(packet_type: int) -> Properties:
    """Return the still empty MQTT 5 properties of a packet."""
    return Properties(packet_type)  # type: ignore[no-untyped-call]  # paho's own gap
