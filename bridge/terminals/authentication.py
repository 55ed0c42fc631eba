"""Who is let in: a handshake's path, credentials and admission, in the order of CONTRACT, section 8."""

import base64
import binascii
import hmac
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from aiohttp import hdrs
from aiohttp.web import BaseRequest, Response

from bridge.config.settings import TerminalsSettings
from bridge.core.admission import Admission
from bridge.core.clock import Clock
from bridge.core.registry import TerminalRegistry
from bridge.model.faults import UnavailableError, shorten
from bridge.model.names import is_serial_number
from bridge.model.secret import Secret
from bridge.net.passwords import PasswordVerifier, VerifierBusyError
from bridge.net.proxies import client_address
from bridge.terminals.throttle import SnThrottle

_LOGGER = logging.getLogger(__name__)

SERVER = "facebridge"
"""What the `Server` header says."""

_TELLINGS = 100
_TELLINGS_A_SECOND = 10
"""Refusals that are told, at once and in the long run: a building whose password was changed, not a flood."""

_BUSY_RETRY = 5
"""Seconds after which a terminal may try again where too many strangers wait."""


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Somebody who may come in."""

    sn: str
    address: str


class TerminalAuthentication:
    """Answers handshakes: with a `Guest`, or with the response that turns somebody away."""

    def __init__(
        self,
        settings: TerminalsSettings,
        registry: TerminalRegistry,
        admission: Admission,
        verifier: PasswordVerifier,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._admission = admission
        self._verifier = verifier
        self._clock = clock
        self._throttle = SnThrottle(clock)
        self._tellings = float(_TELLINGS)
        self._told_at = clock.boottime()

    async def answer(self, request: BaseRequest) -> PeerIdentity | Response:
        """Decide on a handshake; only the upgrade itself is left to do for a guest."""
        below = self._below(request.raw_path)
        if below is None:
            return turned_away(404, f"terminals connect to {self._settings.path}/<SN>")
        if request.method != hdrs.METH_GET:
            return turned_away(405, "terminals connect with GET", {hdrs.ALLOW: hdrs.METH_GET})
        address = client_address(
            request.remote or "unknown",
            request.headers.getall(hdrs.X_FORWARDED_FOR, ()),
            self._settings.trusted_proxies,
        )
        sn = unquote(below, errors="replace")
        if not is_serial_number(sn):
            self._tell(shorten(sn, 64), address, "an SN has 1 to 64 letters, digits, _ and -")
            return turned_away(400, "an SN has 1 to 64 letters, digits, _ and -")
        wait = self._throttle.wait(address, sn)
        if wait > 0:
            self._tell(sn, address, "wrong credentials too often")
            return _later(429, "wrong credentials too often", math.ceil(wait))
        return await self._check_credentials(request, sn, address)

    async def _check_credentials(self, request: BaseRequest, sn: str, address: str) -> PeerIdentity | Response:
        given = _credentials(request.headers.get(hdrs.AUTHORIZATION, ""))
        if given is None:
            self._tell(sn, address, "no credentials")
            return _unauthorized()
        # Counted before it is looked at: else a thousand at once would all find nothing counted yet.
        self._throttle.failed(address, sn)
        try:
            right = await self._verify(sn, *given, address)
        except VerifierBusyError:
            self._throttle.not_looked_at(address, sn)
            return _later(503, "too many ask just now", _BUSY_RETRY)
        if not right:
            self._tell(sn, address, "wrong credentials")
            return _unauthorized()
        self._throttle.succeeded(address, sn)
        try:
            admitted = await self._admission.ask(sn, address)
        except UnavailableError as error:
            self._tell(sn, address, str(error))
            return _later(503, "cannot be admitted now", _BUSY_RETRY)
        if not admitted:
            return turned_away(403, "not admitted yet: approve this terminal")
        if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
            return turned_away(426, "terminals speak WebSocket", {hdrs.UPGRADE: "websocket"})
        return PeerIdentity(sn, address)

    async def _verify(self, sn: str, username: str, password: str, address: str) -> bool:
        """Check against the terminal's own credentials where it has some, else against everyone's."""
        known = self._registry.get(sn)
        expected: tuple[str | None, Secret | None] = (self._settings.username, self._settings.password)
        if known is not None and known.terminal.password is not None:
            expected = (known.terminal.username, known.terminal.password)
        if expected[0] is None or expected[1] is None:
            return False
        same_name = hmac.compare_digest(expected[0].encode(), username.encode(errors="surrogateescape"))
        right = await self._verifier.verify(expected[1], password, known=known is not None, address=address)
        return right and same_name

    def _below(self, raw_path: str) -> str | None:
        """Return what follows the terminals' path, still escaped; an escaped slash makes no path of it."""
        path = raw_path.partition("?")[0]
        prefix = f"{self._settings.path}/"
        if not path.startswith(prefix) or "/" in path[len(prefix) :]:
            return None
        return path[len(prefix) :]

    def _tell(self, sn: str, address: str, reason: str) -> None:
        now = self._clock.boottime()
        self._tellings = min(_TELLINGS, self._tellings + (now - self._told_at) * _TELLINGS_A_SECOND)
        self._told_at = now
        if self._tellings < 1:
            return
        self._tellings -= 1
        self._admission.refused(sn, address, reason)
        if self._tellings < 1:
            _LOGGER.warning("refusing so many that further ones are only counted for a while")


def turned_away(status: int, why: str, headers: Mapping[str, str] | None = None) -> Response:
    """Build the response to a handshake that comes to nothing; its connection is not kept."""
    response = Response(
        status=status,
        text=f"{why}\n",
        headers={hdrs.SERVER: SERVER, hdrs.CONNECTION: "close", **(headers or {})},
    )
    response.force_close()
    return response


def _later(status: int, why: str, seconds: int) -> Response:
    return turned_away(status, why, {hdrs.RETRY_AFTER: str(seconds)})


def _unauthorized() -> Response:
    challenge: dict[str, str] = {hdrs.WWW_AUTHENTICATE: 'Basic realm="terminals", charset="UTF-8"'}
    return turned_away(401, "wrong or missing credentials", challenge)


def _credentials(header: str) -> tuple[str, str] | None:
    """Read an `Authorization: Basic` header (RFC 7617); None for anything else."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode(errors="surrogateescape")
    except (binascii.Error, ValueError):
        return None
    username, colon, password = text.partition(":")
    return (username, password) if colon else None
