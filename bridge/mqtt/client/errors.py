"""Errors of the MQTT client, and texts that tell users why there is no connection and what to do."""

import socket
import ssl

from bridge.config.settings import MqttSettings


class NotConnectedError(Exception):
    """There is no connection to the broker, or it ended. Its text is the reason, if that is known.

    A message that was being published may have reached the broker. It is not published again later.
    """


class SubscriptionRefusedError(Exception):
    """The broker refuses a subscription.

    Attributes:
        topic: the refused topic filter.
    """

    def __init__(self, topic: str) -> None:
        super().__init__(topic)
        self.topic = topic


class PacketTooLargeError(Exception):
    """A message is larger than the largest packet that the broker accepts, so it was not published.

    Attributes:
        size: bytes of the message's packet.
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


class TlsFilesError(Exception):
    """A file of `mqtt.tls` cannot be used. The text names the file and the reason."""


CONNECTION_LOST = "the connection to the broker was lost"
LOST_REPEATEDLY = (
    "the connection to the broker is lost again and again: another client may connect with the same client id "
    "(mqtt.client_id)"
)

_REFUSALS = {
    "Bad user name or password": "the broker refuses the credentials: check mqtt.username and mqtt.password",
    "Not authorized": "the broker refuses the credentials: check mqtt.username and mqtt.password",
    "Client identifier not valid": "the broker refuses the client id: change mqtt.client_id",
    "Unsupported protocol version": 'the broker does not support MQTT 5: set mqtt.protocol to "3.1.1"',
    "Banned": "the broker has banned this client",
    "Server busy": "the broker is busy",
    "Server unavailable": "the broker is not available",
    "Server shutting down": "the broker is shutting down",
    "Session taken over": "another client connects with the same client id: change mqtt.client_id of one of them",
    "Packet too large": "the broker received a packet that is larger than it accepts",
    "QoS not supported": "the broker does not support QoS 1, which the bridge needs",
    "Retain not supported": "the broker does not store retained messages, which availability and state need",
}

_PAHO_ENDINGS = {
    "Keep alive timeout": "the broker no longer answers",
    "Protocol error": "the broker sent data that is not valid MQTT, or not of the version in mqtt.protocol",
}
"""Endings that paho itself detects; it names them by reason codes of MQTT 5."""


def describe_refusal(name: str) -> str:
    """Return the meaning of a reason code of CONNACK or DISCONNECT, given its name in MQTT 5."""
    return _REFUSALS.get(name, f"the broker ended the connection: {name}")


def describe_ending(name: str, settings: MqttSettings, *, accepted: bool) -> str:
    """Return why a connection ended that the broker did not end with a DISCONNECT packet.

    Args:
        name: paho's reason.
        settings: the broker's settings.
        accepted: whether the broker had accepted the connection.
    """
    if name in _PAHO_ENDINGS:
        return _PAHO_ENDINGS[name]
    return CONNECTION_LOST if accepted else _describe_missing_connack(settings)


def describe_failure(error: Exception, settings: MqttSettings) -> str:
    """Return why a connection could not be made."""
    host, address = settings.host, f"{settings.host}:{settings.port}"
    if isinstance(error, TlsFilesError):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} cannot be trusted: {error.verify_message or error.reason}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with {address}: {error.reason or 'the handshake failed'}"
    if isinstance(error, socket.gaierror):
        return f"the name {host} is not known"
    if isinstance(error, TimeoutError):
        return f"no answer from {address}"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on {address}"
    if isinstance(error, OSError):
        return f"cannot reach {address}: {error.strerror or type(error).__name__}"
    # paho rejects the settings, or the name cannot be encoded.
    return f"cannot reach {address}: {error}"


def _describe_missing_connack(settings: MqttSettings) -> str:
    if settings.tls is None:
        cause = "it may require TLS (mqtt.tls)"
    elif settings.tls.certificate is None:
        cause = "it may require a client certificate (mqtt.tls.certificate)"
    else:
        cause = "it may not trust the client certificate (mqtt.tls.certificate)"
    if settings.protocol == "5":
        cause += ' or not support MQTT 5 (set mqtt.protocol to "3.1.1")'
    return f"{settings.host}:{settings.port} ends the connection without an answer: {cause}"
