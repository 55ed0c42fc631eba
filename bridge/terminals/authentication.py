"""Authentication of handshakes: path, credentials and admission, in this order (docs/protocol.md)."""

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
from bridge.net.client_identity import client_address, read_basic_credentials, throttled_address
from bridge.net.passwords import PasswordVerifier, VerifierBusyError
from bridge.net.throttle import LoginThrottle

_LOGGER = logging.getLogger(__name__)

SERVER = "facebridge"
"""The `Server` header of every response."""

_MAX_REPORTS = 100
_REPORTS_PER_SECOND = 10
"""Refusals that are reported, in a burst and in the long run: enough for a building after a
change of the password, and a bound for a flood."""

_BUSY_RETRY_SECONDS = 5
"""When a terminal should try again after a refusal that is not its fault."""


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """An authenticated and admitted terminal."""

    sn: str
    address: str


class TerminalAuthentication:
    """Decisions on handshakes: a `PeerIdentity`, or the response that refuses the handshake."""

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
        # The key includes a known SN, so that failures for one terminal do not block others at the same address (NAT).
        # All unknown SNs of an address share one key: otherwise each invented SN would allow ten more guesses.
        self._throttle = LoginThrottle[tuple[str, str | None]](clock)
        self._reports = float(_MAX_REPORTS)
        self._reported_at = clock.boottime()

    async def authenticate(self, request: BaseRequest) -> PeerIdentity | Response:
        """Return the identity of a terminal that may connect, or the response that refuses its handshake."""
        escaped_sn = self._escaped_sn(request.raw_path)
        if escaped_sn is None:
            self._log_wrong_path(request)
            return refuse(404, f"terminals connect to {self._settings.path}/<SN>")
        if request.method != hdrs.METH_GET:
            return refuse(405, "terminals connect with GET", {hdrs.ALLOW: hdrs.METH_GET})
        if request.body_exists:
            return refuse(400, "a handshake has no body")
        address = self._address(request)
        sn = unquote(escaped_sn, errors="replace")
        if not is_serial_number(sn):
            self._report(shorten(sn, 64), address, "an SN has 1 to 64 letters, digits, _ and -")
            return refuse(400, "an SN has 1 to 64 letters, digits, _ and -")
        seconds = self._throttle.seconds_blocked(self._throttle_key(sn, address))
        if seconds > 0:
            others = "" if sn in self._registry else ", of this or another unknown terminal at this address"
            remedy = f"{others}: they are checked again within a minute"
            self._report(sn, address, "wrong credentials too often", remedy)
            return _retry_later(429, "wrong credentials too often", math.ceil(seconds))
        return await self._check_credentials(request, sn, address)

    async def _check_credentials(self, request: BaseRequest, sn: str, address: str) -> PeerIdentity | Response:
        credentials = read_basic_credentials(request.headers.get(hdrs.AUTHORIZATION, ""))
        if credentials is None:
            self._report(sn, address, "no credentials")
            return _unauthorized()
        # Count the failure before the verification: otherwise a thousand simultaneous attempts would all pass.
        key = self._throttle_key(sn, address)
        self._throttle.failed(key)
        try:
            right = await self._verify(sn, *credentials, address)
        except VerifierBusyError:
            self._throttle.withdraw_failure(key)
            return _retry_later(503, "too many logins are being verified", _BUSY_RETRY_SECONDS)
        if not right:
            self._report(sn, address, "wrong credentials", ": correct user and password on the terminal")
            return _unauthorized()
        if key[1] is None:
            # A terminal that waits for approval logs in again and again. It must not reset the count of a guesser.
            self._throttle.withdraw_failure(key)
        else:
            self._throttle.succeeded(key)
        try:
            admitted = await self._admission.may_connect(sn, address)
        except UnavailableError as error:
            self._report(sn, address, str(error))
            return _retry_later(503, "the terminal cannot be admitted now", _BUSY_RETRY_SECONDS)
        if not admitted:
            return refuse(403, "not admitted yet: approve this terminal")
        if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket":
            return refuse(426, "terminals connect with WebSocket", {hdrs.UPGRADE: "websocket"})
        return PeerIdentity(sn, address)

    def _throttle_key(self, sn: str, address: str) -> tuple[str, str | None]:
        return throttled_address(address), sn if sn in self._registry else None

    async def _verify(self, sn: str, username: str, password: str, address: str) -> bool:
        """Verify against the terminal's own credentials if it has some, otherwise against the common ones."""
        known = self._registry.get(sn)
        expected: tuple[str | None, Secret | None] = (self._settings.username, self._settings.password)
        if known is not None and known.terminal.password is not None:
            expected = (known.terminal.username, known.terminal.password)
        if expected[0] is None or expected[1] is None:
            return False
        same_name = hmac.compare_digest(expected[0].encode(), username.encode(errors="surrogateescape"))
        right = await self._verifier.verify(expected[1], password, known=known is not None, address=address)
        return right and same_name

    def _escaped_sn(self, raw_path: str) -> str | None:
        """Return the path's last part, still percent-encoded, so that an encoded slash does not split it."""
        path = raw_path.partition("?")[0]
        prefix = f"{self._settings.path}/"
        if not path.startswith(prefix) or "/" in path[len(prefix) :]:
            return None
        return path[len(prefix) :]

    def _address(self, request: BaseRequest) -> str:
        return client_address(
            request.remote or "unknown",
            request.headers.getall(hdrs.X_FORWARDED_FOR, ()),
            self._settings.trusted_proxies,
        )

    def _log_wrong_path(self, request: BaseRequest) -> None:
        """Log a terminal whose path is wrong. It is no event, because scanners and health checks do this too."""
        if request.headers.get(hdrs.UPGRADE, "").lower() != "websocket" or not self._may_report():
            return
        address = self._address(request)
        _LOGGER.warning(
            "refused a terminal from %s: wrong path %s, terminals connect to %s/<SN>",
            address,
            shorten(request.raw_path.partition("?")[0], 100),
            self._settings.path,
            extra={"address": address},
        )

    def _report(self, sn: str, address: str, reason: str, remedy: str = "") -> None:
        """Report a refusal to admission, if there are not too many (token bucket)."""
        if self._may_report():
            self._admission.record_refusal(sn, address, reason, remedy)

    def _may_report(self) -> bool:
        """Count a report; return whether there are not too many."""
        now = self._clock.boottime()
        self._reports = min(_MAX_REPORTS, self._reports + (now - self._reported_at) * _REPORTS_PER_SECOND)
        self._reported_at = now
        if self._reports < 1:
            return False
        self._reports -= 1
        if self._reports < 1:
            _LOGGER.warning("too many refused handshakes: for a while they are only counted")
        return True


def refuse(status: int, reason: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return the response that refuses a handshake and closes the connection."""
    response = Response(
        status=status,
        text=f"{reason}\n",
        headers={hdrs.SERVER: SERVER, hdrs.CONNECTION: "close", **(headers or {})},
    )
    response.force_close()
    return response


def _retry_later(status: int, reason: str, seconds: int) -> Response:
    return refuse(status, reason, {hdrs.RETRY_AFTER: str(seconds)})


def _unauthorized() -> Response:
    challenge: dict[str, str] = {hdrs.WWW_AUTHENTICATE: 'Basic realm="terminals", charset="UTF-8"'}
    return refuse(401, "wrong or missing credentials", challenge)
