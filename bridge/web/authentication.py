"""Authentication of HTTP requests: users, tokens, roles, and throttling of wrong logins."""

import asyncio
import hmac
import logging
import math
import secrets
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Literal

from aiohttp import hdrs, web

from bridge.config.settings import WebSettings
from bridge.core.clock import Clock
from bridge.net.client_identity import client_address, read_basic_credentials, throttled_address
from bridge.net.passwords import is_hash
from bridge.net.throttle import LoginThrottle, ThrottleLimits
from bridge.web.context import Verify
from bridge.web.errors import RequestError
from bridge.web.same_origin import SameOriginCheck, is_loopback

_LOGGER = logging.getLogger(__name__)

Role = Literal["admin", "operator"]
"""An operator reads and opens doors; an admin may do everything."""

_PATH_WITHOUT_LOGIN = "/healthz"
_PATH_WITH_OPTIONAL_LOGIN = "/readyz"
"""Answers everyone, but only a user learns the details."""

_GUESSES_OF_USED_LOGINS = ThrottleLimits(max_failures=1_000, forget_seconds=3_600.0, max_keys=200)
"""Different wrong logins of an address after which right ones are refused too. Until then each of them can be a guess
of a login that passes: a guesser has a thousand an hour, and cannot lock out other clients of the address with ten."""

_MAX_REMEMBERED_LOGINS = 256
"""Right logins that are remembered: the user's and one for each token, a few of them in several spellings."""
_MAX_WAITING_LOGINS = 32
"""Logins that may wait for verification, one after the other at some 50 ms a hash: two seconds for all."""


@dataclass(frozen=True, slots=True)
class User:
    """The sender of a request.

    Attributes:
        name: of the user or the token; None if no login is needed.
        role: the permissions.
    """

    name: str | None
    role: Role


USER: web.RequestKey[User] = web.RequestKey("user", User)
"""Set on every request with a login, and on every request if no login is needed."""


VIA_INGRESS: web.RequestKey[bool] = web.RequestKey("via_ingress", bool)
"""Whether Home Assistant's Supervisor passed the request on."""

_MAX_USER_CHARACTERS = 128


def require_role(request: web.Request, role: Role) -> User:
    """Return the request's user if the user has a role. Raises RequestError."""
    user = request[USER]
    if user.role not in (role, "admin"):
        message = f"needs the role {role!r}; this login has the role {user.role!r}"
        raise RequestError(403, message, path="Authorization")
    return user


class Security:
    """The checks that every request passes before a handler runs."""

    def __init__(self, settings: WebSettings, verify: Verify, clock: Clock) -> None:
        self._ingress = settings.ingress
        self._same_origin = SameOriginCheck(settings)
        self._logins = _Logins(settings, verify, clock) if _needs_login(settings) else None

    async def check(self, request: web.Request) -> None:
        """Set the request's `USER`. Raises RequestError for a request that is not allowed."""
        via_ingress = self._ingress is not None and _is_in(request.remote, self._ingress)
        self._same_origin.check(request, via_ingress=via_ingress)
        request[VIA_INGRESS] = via_ingress
        if request.path == _PATH_WITHOUT_LOGIN:
            return
        if via_ingress:
            # The Supervisor has checked the login.
            request[USER] = User(_home_assistant_user(request), "admin")
        elif self._logins is None:
            request[USER] = User(None, "admin")
        elif request.path != _PATH_WITH_OPTIONAL_LOGIN:
            request[USER] = await self._logins.user_of(request)
        elif hdrs.AUTHORIZATION in request.headers:
            with suppress(RequestError):
                request[USER] = await self._logins.user_of(request)


class _Logins:
    """Verification of logins.

    The throttle counts different wrong logins of an address. A program that sends the same outdated login again and
    again is no guesser: its login counts once, so it does not block other clients of the address. A right login does
    not reset the count: otherwise a user could guess the login of another one in between.

    A blocked address can still use logins that need no hashing: plain ones, and those that were right before. So a
    client that guesses does not lock out the others behind the same address.
    """

    def __init__(self, settings: WebSettings, verify: Verify, clock: Clock) -> None:
        self._settings = settings
        self._verify = verify
        self._throttle = LoginThrottle[str](clock)
        self._guesses = LoginThrottle[str](clock, _GUESSES_OF_USED_LOGINS)
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, User] = {}
        self._lock = asyncio.Lock()
        self._waiting = 0

    async def user_of(self, request: web.Request) -> User:
        """Return the user of a request. Raises RequestError."""
        peer, forwarded_for = request.remote or "unknown", request.headers.getall(hdrs.X_FORWARDED_FOR, ())
        address = throttled_address(client_address(peer, forwarded_for, self._settings.trusted_proxies))
        header = request.headers.get(hdrs.AUTHORIZATION)
        if header is None:
            raise _unauthorized("a login is needed")
        _check(self._guesses, address)
        digest = hmac.digest(self._key, header.encode(errors="surrogateescape"), "sha256")
        # These logins do not wait behind the verification of a guess.
        user = self._remembered.get(digest) or await self._verified(header, hashed=False)
        if user is not None:
            return user
        self._check_known(address, digest)
        if self._waiting >= _MAX_WAITING_LOGINS:
            message = "too many logins are being verified; try again"
            raise RequestError(503, message, headers={hdrs.RETRY_AFTER: "2"})
        self._waiting += 1
        try:
            async with self._lock:
                # Check again: an earlier request may have verified the same login, or its failure blocked the address.
                user = self._remembered.get(digest)
                if user is None:
                    self._check_known(address, digest)
                    user = await self._verify_new(header, digest, address)
                return user
        finally:
            self._waiting -= 1

    def _check_known(self, address: str, digest: bytes) -> None:
        """Raise RequestError if the address is blocked, or if this login was wrong before."""
        if self._throttle.seconds_blocked(address) > 0:
            self._count_guess(address, digest)
        _check(self._throttle, address)
        if self._throttle.is_known_failure(address, digest):
            raise _unauthorized("wrong login")

    async def _verify_new(self, header: str, digest: bytes, address: str) -> User:
        user = await self._verified(header, hashed=True)
        if user is None:
            self._throttle.failed(address, digest)
            self._count_guess(address, digest)
            _LOGGER.warning("wrong login from %s", address, extra={"address": address})
            raise _unauthorized("wrong login")
        if len(self._remembered) >= _MAX_REMEMBERED_LOGINS:
            self._remembered.clear()
        self._remembered[digest] = user
        return user

    def _count_guess(self, address: str, digest: bytes) -> None:
        if not self._guesses.is_known_failure(address, digest):
            self._guesses.failed(address, digest)

    async def _verified(self, header: str, *, hashed: bool) -> User | None:
        """Return the user of a login, compared only with the configured hashes, or only with what is plain."""
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "bearer":
            return await self._user_of_token(value.strip(), hashed=hashed)
        credentials = read_basic_credentials(header)
        return None if credentials is None else await self._user_of_password(*credentials, hashed=hashed)

    async def _user_of_password(self, username: str, password: str, *, hashed: bool) -> User | None:
        expected = self._settings
        if expected.username is None or expected.password is None or is_hash(expected.password.reveal()) != hashed:
            return None
        same_name = hmac.compare_digest(expected.username.encode(), username.encode(errors="surrogateescape"))
        right = await self._verify(expected.password, password)
        return User(expected.username, "admin") if right and same_name else None

    async def _user_of_token(self, value: str, *, hashed: bool) -> User | None:
        for name, token in self._settings.tokens.items():
            if is_hash(token.hash.reveal()) == hashed and await self._verify(token.hash, value):
                return User(name, token.role)
        return None


def _check(throttle: LoginThrottle[str], address: str) -> None:
    """Raise RequestError if an address is blocked."""
    seconds = throttle.seconds_blocked(address)
    if seconds > 0:
        raise RequestError(429, "too many wrong logins", headers={hdrs.RETRY_AFTER: str(math.ceil(seconds))})


def _is_in(address: str | None, network: IPv4Network | IPv6Network) -> bool:
    try:
        found = ip_address(address or "")
    except ValueError:
        return False
    return (getattr(found, "ipv4_mapped", None) or found) in network


def _home_assistant_user(request: web.Request) -> str:
    """Return the name of the user of Home Assistant, for the log."""
    for header in ("X-Remote-User-Display-Name", "X-Remote-User-Name", "X-Remote-User-Id"):
        name = request.headers.get(header, "").strip()
        if name and name.isprintable():
            return name[:_MAX_USER_CHARACTERS]
    return "Home Assistant"


def _needs_login(settings: WebSettings) -> bool:
    # A server that other machines reach must not be open: without a configured login it rejects every request.
    return settings.username is not None or bool(settings.tokens) or not is_loopback(settings.host)


def _unauthorized(message: str) -> RequestError:
    challenge = 'Basic realm="Facebridge", charset="UTF-8"'
    return RequestError(401, message, path=hdrs.AUTHORIZATION, headers={hdrs.WWW_AUTHENTICATE: challenge})
