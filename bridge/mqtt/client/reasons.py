"""Why there is no connection, in words that say what to do."""

import socket
import ssl

from bridge.config.settings import MqttSettings

LOST = "the connection to the broker was lost"
LOST_REPEATEDLY = (
    "the connection to the broker is lost again and again: another client may connect with the same client id "
    "(mqtt.client_id)"
)

_REFUSALS = {
    "Bad user name or password": "the broker refuses the credentials: check mqtt.username and mqtt.password",
    "Not authorized": "the broker refuses the credentials: check mqtt.username and mqtt.password",
    "Client identifier not valid": "the broker refuses the client id: change mqtt.client_id",
    "Unsupported protocol version": 'the broker does not speak MQTT 5: set mqtt.protocol to "3.1.1"',
    "Banned": "the broker has banned this client",
    "Server busy": "the broker is busy",
    "Server unavailable": "the broker is not available",
    "Server shutting down": "the broker is shutting down",
    "Session taken over": "another client connects with the same client id: change mqtt.client_id of one",
    "Packet too large": "the broker found a packet too large",
    "QoS not supported": "the broker does not support QoS 1, without which no promise holds",
    "Retain not supported": "the broker does not keep retained messages, which availability and state need",
}

ENDINGS = {
    "Keep alive timeout": "the broker no longer answers",
    "Protocol error": "the broker sent what is no MQTT, or not of the version that mqtt.protocol says",
}
"""What a connection ended by, under the names of MQTT 5 that paho gives to what it finds by itself."""


def refusal(name: str) -> str:
    """Return what a reason code of CONNACK or DISCONNECT means, by its name in MQTT 5."""
    return _REFUSALS.get(name, f"the broker ended the connection: {name}")


def unanswered(settings: MqttSettings) -> str:
    """Return what may be wrong where the broker hangs up instead of answering CONNECT."""
    if settings.tls is None:
        wants = "it may want TLS (mqtt.tls)"
    elif settings.tls.certificate is None:
        wants = "it may want a client certificate (mqtt.tls.certificate)"
    else:
        wants = "it may not trust the client certificate (mqtt.tls.certificate)"
    if settings.protocol == "5":
        wants += ' or not speak MQTT 5 (set mqtt.protocol to "3.1.1")'
    return f"{settings.host}:{settings.port} ends the connection without an answer: {wants}"


def failure(error: Exception, settings: MqttSettings) -> str:
    """Return what kept the connection from being made."""
    host, where = settings.host, f"{settings.host}:{settings.port}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} cannot be trusted: {error.verify_message or error.reason}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with {where}: {error.reason or 'the handshake failed'}"
    if isinstance(error, socket.gaierror):
        return f"the name {host} is not known"
    if isinstance(error, TimeoutError):
        return f"no answer from {where}"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on {where}"
    if isinstance(error, OSError):
        return f"cannot reach {where}: {error.strerror or type(error).__name__}"
    # paho's own checks, and a name that cannot be encoded.
    return f"cannot reach {where}: {error}"
