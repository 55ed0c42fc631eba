"""The Supervisor's API: the broker that Home Assistant uses (`GET /services/mqtt`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from bridge.model.faults import shorten
from bridge.model.secret import Secret

URL = "http://supervisor"
"""The Supervisor's URL inside every app."""

TOKEN = "SUPERVISOR_TOKEN"  # noqa: S105  the variable's name
"""The environment variable with the app's token; each start has a new one."""

_TIMEOUT_SECONDS = 10.0
"""Time-out of a request; a busy Supervisor on a small machine needs two or three seconds."""

_MAX_RESPONSE_BYTES = 64 * 1024
"""A response has some 300 bytes."""

_NOT_ENABLED = "not enabled"
"""In the message of the response if no app provides the service (supervisor/api/services.py)."""


class SupervisorError(Exception):
    """The Supervisor named no broker; the message says why and follows "the Supervisor"."""


class SupervisorAwayError(SupervisorError):
    """The Supervisor cannot be reached or is not ready; try again later."""


class NoMqttServiceError(SupervisorError):
    """No app provides MQTT."""


class SupervisorRefusedError(SupervisorError):
    """The Supervisor rejects this app's token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttService:
    """The broker that another app provides. Its `protocol` is not used: such brokers support MQTT 3.1.1 and 5."""

    host: str
    port: int
    username: str | None
    password: Secret | None
    tls: bool


class Supervisor:
    """A client for the part of the Supervisor's API that this app may use.

    Args:
        url: the Supervisor's URL.
        token: this app's token.
        timeout_seconds: of a request.
    """

    def __init__(self, url: str, token: Secret, timeout_seconds: float = _TIMEOUT_SECONDS) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._timeout_seconds = timeout_seconds

    async def mqtt_service(self) -> MqttService:
        """Return the broker to use.

        Raises:
            SupervisorError: there is no broker; the subclass says what to do.
        """
        timeout = aiohttp.ClientTimeout(total=self._timeout_seconds)
        headers = {"Authorization": f"Bearer {self._token.reveal()}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
                session.get(f"{self._url}/services/mqtt", allow_redirects=False) as response,
            ):
                return _service(response.status, await _read(response))
        except TimeoutError:
            raise SupervisorAwayError(f"no answer within {self._timeout_seconds:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise SupervisorAwayError(f"cannot be reached: {error.strerror or error.os_error}") from None
        except aiohttp.ClientError as error:
            raise SupervisorAwayError(f"closed the connection during the request ({type(error).__name__})") from None


async def _read(response: aiohttp.ClientResponse) -> Any:
    if response.content_length is not None and response.content_length > _MAX_RESPONSE_BYTES:
        raise SupervisorAwayError(f"answered with more than {_MAX_RESPONSE_BYTES} bytes")
    try:
        return await response.json(content_type=None)
    except ValueError:
        return None


def _service(status: int, answer: Any) -> MqttService:
    answer = answer if isinstance(answer, dict) else {}
    if status in (401, 403):
        raise SupervisorRefusedError(f"rejects this app's token (HTTP {status})")
    if status != 200 or answer.get("result") != "ok":
        message = shorten(str(answer.get("message") or f"HTTP {status}"), 120)
        if _NOT_ENABLED in message:
            raise NoMqttServiceError(message)
        raise SupervisorAwayError(f"is not ready: {message}")
    data = answer.get("data")
    return _read_service(data if isinstance(data, dict) else {})


def _read_service(data: Mapping[str, Any]) -> MqttService:
    host, port = data.get("host"), data.get("port")
    username, password = data.get("username"), data.get("password")
    if not isinstance(host, str) or not host or not isinstance(port, int) or not 1 <= port <= 65535:
        # After the removal of the providing app the response is empty for a moment.
        raise SupervisorAwayError("named no host and port of the MQTT service")
    return MqttService(
        host=host,
        port=port,
        username=username if isinstance(username, str) and username else None,
        password=Secret(password) if isinstance(password, str) and password and username else None,
        tls=data.get("ssl") is True,
    )
