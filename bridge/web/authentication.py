"""Who may use the HTTP server: people and programs with a login, and no website in somebody's browser."""

import asyncio
import base64
import binascii
import hmac
import logging
import math
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from bridge.config.settings import WebSettings
from bridge.core.clock import Clock
from bridge.model.secret import Secret
from bridge.web.errors import RequestError
from bridge.web.login_throttle import LoginThrottle, throttled_address

_LOGGER = logging.getLogger(__name__)

Verify = Callable[[Secret, str], Awaitable[bool]]
"""Tells whether a password or token (the second) is the one stored (plain, or a hash), in constant time."""

Role = Literal["admin", "operator"]
"""An operator reads and opens doors, an admin does everything."""

SECURITY_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "facebridge",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer: nothing is kept, framed or guessed at. None of them lets another website read anything (CORS)."""

_WITHOUT_LOGIN = frozenset({"/healthz", "/readyz"})

_ACCEPTED = 256
"""Right logins that are remembered: the user's and one for each token, a few of them in more than one spelling."""
_WAITING = 32
"""Logins that may wait to be verified, one after the other at some 50 ms a hash: all are through in two seconds."""


@dataclass(frozen=True, slots=True)
class User:
    """Who asks.

    Attributes:
        name: of the user or the token; None where no login is needed.
        role: what they may do.
    """

    name: str | None
    role: Role


USER: web.RequestKey[User] = web.RequestKey("user", User)
"""Set on every request but those for health and readiness."""


def require_role(request: web.Request, role: Role) -> User:
    """Return who asks, if they may do what takes this role. Raises RequestError."""
    user = request[USER]
    if user.role not in (role, "admin"):
        raise RequestError(403, f"takes the role {role!r}; this login has the role {user.role!r}", path="Authorization")
    return user


class Security:
    """Checks every request before anything else is done for it."""

    def __init__(self, settings: WebSettings, verify: Verify, clock: Clock) -> None:
        self._websites = _Websites(settings)
        self._logins = _Logins(settings, verify, clock) if _needs_login(settings) else None

    async def check(self, request: web.Request) -> None:
        """Set the request's `USER`, or turn the request away. Raises RequestError."""
        self._websites.check(request)
        if request.path in _WITHOUT_LOGIN:
            return
        request[USER] = User(None, "admin") if self._logins is None else await self._logins.user_of(request)


class _Websites:
    """Turns away what a website could send from a browser that reaches this server, or that its user is logged in with.

    Its requests carry its name in `Origin` or give themselves away by `Sec-Fetch-Site`; one that has had its name
    rebound to this server's address carries it in `Host`.
    """

    def __init__(self, settings: WebSettings) -> None:
        # An address is nobody's name that could be rebound; with a login it may be reached under any that leads here.
        self._any_address = not _is_loopback(settings.host)
        self._names = {"localhost", settings.host.lower()}
        if self._any_address:
            self._names.add(socket.gethostname().lower())
        self._url_authority = None if settings.url is None else _authority_of(settings.url)
        if settings.url is not None:
            self._names.add(_host_of(settings.url) or "")

    def check(self, request: web.Request) -> None:
        hosts = request.headers.getall(hdrs.HOST, [])
        host = _host_of(f"//{hosts[0]}") if len(hosts) == 1 else None
        if host is None or not self._is_own(host):
            message = "this server does not go by that name; set web.url to the address that people use"
            raise RequestError(403, message, path=hdrs.HOST)
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            # Another port of this host is another website: "same-site" is not enough.
            raise RequestError(403, "requests from other websites are not allowed", path="Sec-Fetch-Site")
        own = (_authority_of(f"{request.scheme}://{hosts[0]}"), self._url_authority)
        for origin in request.headers.getall(hdrs.ORIGIN, []):
            authority = _authority_of(origin)
            if authority is None or authority not in own:
                message = "requests from other websites are not allowed; set web.url if this is the bridge's own page"
                raise RequestError(403, message, path=hdrs.ORIGIN)

    def _is_own(self, host: str) -> bool:
        return host in self._names or _is_loopback(host) or (self._any_address and _is_address(host))


class _Logins:
    def __init__(self, settings: WebSettings, verify: Verify, clock: Clock) -> None:
        self._settings = settings
        self._verify = verify
        self._throttle = LoginThrottle(clock)
        self._key = secrets.token_bytes(32)
        self._accepted: dict[bytes, User] = {}
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def user_of(self, request: web.Request) -> User:
        """Return who asks. Raises RequestError."""
        address = throttled_address(request.remote)
        header = request.headers.get(hdrs.AUTHORIZATION)
        if header is None:
            self._check_throttle(address)
            raise _unknown("a login is needed")
        digest = hmac.digest(self._key, header.encode(errors="surrogateescape"), "sha256")
        # A login that was right before waits behind no guesser's; one that was wrong before costs nothing again.
        user = self._known(address, digest)
        if user is not None:
            return user
        if self._waiting >= _WAITING:
            message = "too many logins are being verified; try again"
            raise RequestError(503, message, headers={hdrs.RETRY_AFTER: "2"})
        self._waiting += 1
        try:
            async with self._turn:
                # What became of those before holds for this one too: a crowd costs no more than one after the other.
                return self._known(address, digest) or await self._look(header, digest, address)
        finally:
            self._waiting -= 1

    def _known(self, address: str, digest: bytes) -> User | None:
        """Return whose login it is as far as known without looking. Raises RequestError for one not looked at."""
        self._check_throttle(address)
        if self._throttle.knows(address, digest):
            raise _unknown("wrong login")
        return self._accepted.get(digest)

    async def _look(self, header: str, digest: bytes, address: str) -> User:
        user = await self._verified(header)
        if user is None:
            self._throttle.failed(address, digest)
            _LOGGER.warning("wrong login from %s", address, extra={"address": address})
            raise _unknown("wrong login")
        if len(self._accepted) >= _ACCEPTED:
            self._accepted.clear()
        self._accepted[digest] = user
        return user

    def _check_throttle(self, address: str) -> None:
        wait = self._throttle.wait(address)
        if wait > 0:
            raise RequestError(429, "too many wrong logins", headers={hdrs.RETRY_AFTER: str(math.ceil(wait))})

    async def _verified(self, header: str) -> User | None:
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "bearer":
            return await self._user_of_token(value.strip())
        if scheme.lower() == "basic":
            return await self._user_of_password(value.strip())
        return None

    async def _user_of_password(self, value: str) -> User | None:
        expected = self._settings
        try:
            username, colon, password = base64.b64decode(value, validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return None
        if not colon or expected.username is None or expected.password is None:
            return None
        same = hmac.compare_digest(expected.username.encode(), username)
        right = await self._verify(expected.password, password.decode(errors="surrogateescape"))
        return User(expected.username, "admin") if right and same else None

    async def _user_of_token(self, value: str) -> User | None:
        for name, token in self._settings.tokens.items():
            if await self._verify(token.hash, value):
                return User(name, token.role)
        return None


def _needs_login(settings: WebSettings) -> bool:
    # Without a login configured, a server open to other machines lets nobody in rather than everybody.
    return settings.username is not None or bool(settings.tokens) or not _is_loopback(settings.host)


def _unknown(message: str) -> RequestError:
    challenge = 'Basic realm="Facebridge", charset="UTF-8"'
    return RequestError(401, message, path=hdrs.AUTHORIZATION, headers={hdrs.WWW_AUTHENTICATE: challenge})


def _host_of(url: str) -> str | None:
    """Return the host of a URL; None for one that has none, or that names a user."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.username is None else None


def _authority_of(url: str) -> str | None:
    """Return `host:port` of a URL; None for one that has none, as `null`."""
    host = _host_of(url)
    if host is None:
        return None
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return f"{host}:{port}"


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host.lower() == "localhost" or (_is_address(host) and ip_address(host).is_loopback)
