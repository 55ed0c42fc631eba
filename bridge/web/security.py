"""Who may use the HTTP server: people and programs with a login, and no website in somebody's browser."""

import asyncio
import base64
import binascii
import hmac
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from bridge.config.settings import WebSettings
from bridge.hub.clock import Clock
from bridge.model.secret import Secret
from bridge.web.errors import error_response

Verify = Callable[[Secret, str], Awaitable[bool]]
"""Tells whether a password (the second) is the one stored (plain, or a hash)."""

Role = Literal["admin", "operator"]

_WITHOUT_LOGIN = frozenset({"/healthz", "/readyz"})
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})

_FAILURES = 10
_PAUSE = 30.0
"""Wrong logins in a row after which an address waits so many seconds: mistyping is free, guessing is not."""
_REMEMBERED = 10_000
"""Addresses whose failures are remembered; the one that failed longest ago makes room."""


@dataclass(frozen=True, slots=True)
class User:
    """Who asks.

    Attributes:
        name: of the user or the token; None where no login is needed.
        role: what they may do: an operator opens and reads, an admin everything.
    """

    name: str | None
    role: Role


USER: web.RequestKey[User] = web.RequestKey("user", User)


class Security:
    """Checks every request before anything else is done for it."""

    def __init__(self, settings: WebSettings, verify: Verify, clock: Clock) -> None:
        self._settings = settings
        self._verify = verify
        self._clock = clock
        self._needs_login = settings.username is not None or bool(settings.tokens)
        self._hosts = _own_hosts(settings)
        self._failures: OrderedDict[str, tuple[int, float]] = OrderedDict()
        # One wrong password at a time is verified; others wait their turn, and none costs more than that.
        self._turn = asyncio.Semaphore(4)

    async def check(self, request: web.Request) -> web.Response | None:
        """Return the response that turns a request away; None for one that may go on, with its `USER` set."""
        response = self._check_website(request)
        if response is not None:
            return response
        if request.path in _WITHOUT_LOGIN or not self._needs_login:
            request[USER] = User(None, "admin")
            return None
        return await self._check_login(request)

    def _check_website(self, request: web.Request) -> web.Response | None:
        """Turn away what a website in a browser on this machine, or one that rebinds its name, could send."""
        host = _host_of(f"//{request.headers.get(hdrs.HOST, '')}")
        if host is None or not self._is_own(host):
            return error_response(
                403, "this server does not go by that name; set web.url to the name people use", path="Host"
            )
        if request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            return error_response(403, "requests from other websites are not allowed", path="Sec-Fetch-Site")
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is not None and _authority_of(origin) not in self._origins(request):
            return error_response(403, "requests from other websites are not allowed", path="Origin")
        return None

    def _is_own(self, host: str) -> bool:
        if host in self._hosts:
            return True
        # Behind a login a name cannot be rebound to anything worth having; a bare address is never somebody's name.
        return self._needs_login and self._settings.host not in _LOOPBACK_NAMES and _is_address(host)

    def _origins(self, request: web.Request) -> set[str | None]:
        own = {_authority_of(f"{request.scheme}://{request.headers.get(hdrs.HOST, '')}")}
        if self._settings.url is not None:
            own.add(_authority_of(self._settings.url))
        return own

    async def _check_login(self, request: web.Request) -> web.Response | None:
        address = request.remote or "unknown"
        wait = self._wait(address)
        if wait > 0:
            return error_response(429, "too many wrong logins", headers={hdrs.RETRY_AFTER: str(int(wait) + 1)})
        header = request.headers.get(hdrs.AUTHORIZATION)
        user = None if header is None else await self._user_of(header)
        if user is not None:
            self._failures.pop(address, None)
            request[USER] = user
            return None
        if header is not None:
            self._failed(address)
        challenge: dict[str, str] = {hdrs.WWW_AUTHENTICATE: 'Basic realm="Facebridge", charset="UTF-8"'}
        return error_response(401, "wrong or missing login", headers=challenge)

    async def _user_of(self, header: str) -> User | None:
        scheme, _, value = header.partition(" ")
        value = value.strip()
        if scheme.lower() == "bearer":
            return await self._token_of(value)
        if scheme.lower() != "basic":
            return None
        try:
            text = base64.b64decode(value, validate=True).decode(errors="surrogateescape")
        except (binascii.Error, ValueError):
            return None
        username, colon, password = text.partition(":")
        expected = self._settings
        if not colon or expected.username is None or expected.password is None:
            return None
        same = hmac.compare_digest(expected.username.encode(), username.encode(errors="surrogateescape"))
        async with self._turn:
            right = await self._verify(expected.password, password)
        return User(expected.username, "admin") if right and same else None

    async def _token_of(self, value: str) -> User | None:
        found: User | None = None
        async with self._turn:
            for name, token in self._settings.tokens.items():
                if await self._verify(token.hash, value):
                    found = User(name, token.role)
        return found

    def _wait(self, address: str) -> float:
        count, last = self._failures.get(address, (0, 0.0))
        return max(0.0, last + _PAUSE - self._clock.boottime()) if count >= _FAILURES else 0.0

    def _failed(self, address: str) -> None:
        count, last = self._failures.pop(address, (0, 0.0))
        now = self._clock.boottime()
        count = 0 if now - last > 2 * _PAUSE else count
        self._failures[address] = (count + 1, now)
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)


def _own_hosts(settings: WebSettings) -> frozenset[str]:
    hosts = set(_LOOPBACK_NAMES)
    if settings.host not in _LOOPBACK_NAMES:
        hosts |= {settings.host.lower(), socket.gethostname().lower()}
    if settings.url is not None:
        hosts.add(urlsplit(settings.url).hostname or "")
    return frozenset(hosts)


def _host_of(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts.hostname if parts.username is None else None


def _authority_of(url: str) -> str | None:
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


SECURITY_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "facebridge",
    "X-Content-Type-Options": "nosniff",
}
"""On every answer: nothing is kept, framed or guessed at."""
