"""What the app asks the Supervisor: which broker Home Assistant uses (`GET /services/mqtt`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from bridge.model.faults import shorten
from bridge.model.secret import Secret

URL = "http://supervisor"
"""Where it is, for every app."""

TOKEN = "SUPERVISOR_TOKEN"  # noqa: S105  the variable's name
"""The variable the Supervisor gives an app its token in, anew at each start."""

_PATIENCE = 10.0
"""Seconds for one answer; a busy Supervisor on a small machine takes two or three."""

_MAXIMUM_ANSWER = 64 * 1024
"""Bytes of an answer; it has some 300."""

_NOT_ENABLED = "not enabled"
"""What its answer says where no app provides the service (supervisor/api/services.py: "Service not enabled")."""


class SupervisorError(Exception):
    """The Supervisor gave no broker; the message says why."""


class SupervisorAwayError(SupervisorError):
    """It could not be asked, or is not ready; it is worth asking again."""


class NoMqttServiceError(SupervisorError):
    """No app provides MQTT."""


class SupervisorRefusedError(SupervisorError):
    """It does not take this app's token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttService:
    """The broker that another app provides; what it says of a protocol is not used, every such broker speaks both."""

    host: str
    port: int
    username: str | None
    password: Secret | None
    tls: bool


class Supervisor:
    """The Supervisor's API, as this app may use it.

    Args:
        url: where it is.
        token: this app's.
        patience: seconds for one answer.
    """

    def __init__(self, url: str, token: Secret, patience: float = _PATIENCE) -> None:
        self._url = url.rstrip("/")
        self._token = token
        self._patience = patience

    async def mqtt_service(self) -> MqttService:
        """Return the broker to use.

        Raises:
            SupervisorError: one of its kinds.
        """
        timeout = aiohttp.ClientTimeout(total=self._patience)
        headers = {"Authorization": f"Bearer {self._token.reveal()}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
                session.get(f"{self._url}/services/mqtt", allow_redirects=False) as response,
            ):
                return _service(response.status, await _read(response))
        except TimeoutError:
            raise SupervisorAwayError(f"no answer within {self._patience:g} s") from None
        except aiohttp.ClientConnectorError as error:
            raise SupervisorAwayError(f"cannot be reached: {error.strerror or error.os_error}") from None
        except aiohttp.ClientError as error:
            raise SupervisorAwayError(f"broke off its answer ({type(error).__name__})") from None


async def _read(response: aiohttp.ClientResponse) -> Any:
    if response.content_length is not None and response.content_length > _MAXIMUM_ANSWER:
        raise SupervisorAwayError(f"answered with more than {_MAXIMUM_ANSWER} bytes")
    try:
        return await response.json(content_type=None)
    except ValueError:
        return None


def _service(status: int, answer: Any) -> MqttService:
    answer = answer if isinstance(answer, dict) else {}
    if status in (401, 403):
        raise SupervisorRefusedError(f"does not take this app's token (HTTP {status})")
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
        # An app that has just been removed leaves an empty answer for a moment.
        raise SupervisorAwayError("named no host and port of the MQTT service")
    return MqttService(
        host=host,
        port=port,
        username=username if isinstance(username, str) and username else None,
        password=Secret(password) if isinstance(password, str) and password and username else None,
        tls=data.get("ssl") is True,
    )
