"""Why there is no connection, in words that say what to do."""

import socket
import ssl

_REFUSALS = {
    "Bad user name or password": "the broker refuses the credentials: check mqtt.username and mqtt.password",
    "Not authorized": "the broker refuses the credentials: check mqtt.username and mqtt.password",
    "Client identifier not valid": "the broker refuses the client id: change mqtt.client_id",
    "Unsupported protocol version": 'the broker does not speak MQTT 5: set mqtt.protocol to "3.1.1"',
    "Banned": "the broker has banned this client",
    "Server busy": "the broker is busy",
    "Server unavailable": "the broker is not available",
    "Session taken over": "another client connects with the same client id: change mqtt.client_id of one",
    "Packet too large": "the broker found a packet too large",
}


def refusal(name: str) -> str:
    """Return what a reason code of CONNACK or DISCONNECT means, by its name in MQTT 5."""
    return _REFUSALS.get(name, f"the broker ended the connection: {name}")


def failure(error: OSError, host: str, port: int) -> str:
    """Return what kept the connection from being made."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {host} cannot be trusted: {error.verify_message or error.reason}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS with {host}:{port}: {error.reason or 'the handshake failed'}"
    if isinstance(error, socket.gaierror):
        return f"the name {host} is not known"
    if isinstance(error, TimeoutError):
        return f"no answer from {host}:{port}"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens on {host}:{port}"
    return f"cannot reach {host}:{port}: {error.strerror or type(error).__name__}"
