"""Sessions of people who have signed in to the page: signed cookies, lifetimes, CSRF tokens.

The cookie holds the session itself, encrypted and signed (Fernet), so the bridge keeps no list of sessions. It keeps
the key, and the ids of sessions that have ended before their time, both in the store.
"""

import asyncio
import hmac
import logging
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

import orjson
from aiohttp import hdrs, web
from cryptography.fernet import Fernet, InvalidToken

from bridge.core.clock import Clock
from bridge.model.faults import UnavailableError
from bridge.web.logins import Account, Logins

_LOGGER = logging.getLogger(__name__)

MAX_SECONDS = 7 * 24 * 3600
"""After this time people sign in again, however often they use the page: once a week at a guard's desk."""

IDLE_SECONDS = 12 * 3600
"""A session that was not used for so long has ended: the longest shift. A page that is open and visible uses it."""

RENEW_SECONDS = 300
"""The cookie is renewed at most this often: its time of issue is the time of the last use."""

_MAX_ENDED = 10_000
"""Logouts of a week that are remembered: a thousand times as many as a guard's desk has."""

_MAX_COOKIE_CHARACTERS = 1_024
"""A cookie has a third of that; longer ones are not decrypted."""

_MAX_SKEW_SECONDS = 60
"""Fernet's limit for cookies from the future, for the case that the clock was set back."""

_PLAIN, _SECURE, _HOST = "facebridge_session", "__Secure-facebridge_session", "__Host-facebridge_session"
"""Names of the cookie. Browsers accept the second one only over HTTPS, and the third one only with the path / and from
this very host, so that no neighbour below the same domain can set it."""

COOKIE_NAMES = (_PLAIN, _SECURE, _HOST)
"""All names of the cookie; the first one is that without HTTPS."""


class SessionStore(Protocol):
    """Keeps the key and the ended sessions over restarts of the bridge."""

    async def load(self, new_key: bytes) -> tuple[bytes, Mapping[str, datetime]]:
        """Return the stored key (`new_key`, which is then stored, if there is none), and the ended sessions.

        Raises:
            UnavailableError: the store cannot be used.
        """

    async def end(self, session_id: str, expires_at: datetime, now: datetime) -> None:
        """Store that a session has ended, until it expires, and forget those that have. Raises UnavailableError."""

    async def replace_key(self, new_key: bytes) -> None:
        """Replace the key, and forget the ended sessions. Raises UnavailableError."""


@dataclass(frozen=True, slots=True)
class LoginSession:
    """A session of a person.

    Attributes:
        id: random.
        account: the account of the login.
        created_at: the time of the login, in epoch seconds.
        used_at: the time at which the cookie was issued, in epoch seconds.
        cookie: the name of the cookie that holds the session.
    """

    id: str
    account: Account
    created_at: int
    used_at: int
    cookie: str

    @property
    def expires_at(self) -> int:
        """The time at which the session ends if it is not used, in epoch seconds."""
        return min(self.created_at + MAX_SECONDS, self.used_at + IDLE_SECONDS)


class Sessions:
    """Issues, reads and ends sessions."""

    def __init__(self, store: SessionStore, logins: Logins, clock: Clock, max_ended: int = _MAX_ENDED) -> None:
        """Build the sessions; `load` makes them usable.

        Args:
            store: keeps the key and the ended sessions.
            logins: the accounts of the configuration.
            clock: the time.
            max_ended: ended sessions that are remembered until they would have expired. Beyond that, every session
                ends.
        """
        self._max_ended = max_ended
        self._store = store
        self._logins = logins
        self._clock = clock
        self._ended: dict[str, float] = {}
        self._ending: dict[str, set[Callable[[], None]]] = {}
        self._use_key(secrets.token_bytes(32))

    async def load(self) -> None:
        """Read the key and the ended sessions. Raises UnavailableError."""
        key, ended = await self._store.load(secrets.token_bytes(32))
        self._use_key(key)
        self._ended = {session_id: expires_at.timestamp() for session_id, expires_at in ended.items()}

    def begin(self, account: Account, cookie: str) -> LoginSession:
        """Return a new session.

        Args:
            account: the account that has logged in.
            cookie: the name of the cookie that will hold it.
        """
        now = int(self._now())
        return LoginSession(secrets.token_hex(16), account, now, now, cookie)

    def value(self, session: LoginSession) -> str:
        """Return the value of the cookie."""
        claims = {
            "id": session.id,
            "name": session.account.name,
            "login": self._fingerprint(session.account),
            "created": session.created_at,
            "cookie": session.cookie,
        }
        return self._fernet.encrypt_at_time(orjson.dumps(claims), session.used_at).decode()

    def read(self, cookies: Mapping[str, str], *, is_secure: bool) -> LoginSession | None:
        """Return the session of a request; None if it has none that is valid.

        Args:
            cookies: of the request.
            is_secure: whether the browser is known to use HTTPS. A cookie that was set without HTTPS is ignored then.
        """
        for cookie in (_HOST, _SECURE) if is_secure else (_HOST, _SECURE, _PLAIN):
            value = cookies.get(cookie, "")
            session = self._read(value, cookie) if 0 < len(value) <= _MAX_COOKIE_CHARACTERS else None
            if session is not None:
                return session
        return None

    def is_due(self, session: LoginSession) -> bool:
        """Return whether the cookie must be renewed, because the session is used."""
        return self._now() - session.used_at >= RENEW_SECONDS

    def renewed(self, session: LoginSession) -> LoginSession:
        """Return a session with the present time of use."""
        return replace(session, used_at=int(self._now()))

    async def end(self, session: LoginSession) -> None:
        """End a session, and every stream that it has open. A store that fails is logged: it ends here anyway."""
        expires_at = session.created_at + MAX_SECONDS
        self._ended[session.id] = expires_at
        for call in tuple(self._ending.get(session.id, ())):
            call()
        now = self._now()
        self._ended = {one: until for one, until in self._ended.items() if until > now}
        try:
            if len(self._ended) > self._max_ended:
                await self._end_all()
            else:
                await self._store.end(session.id, datetime.fromtimestamp(expires_at, UTC), self._clock.now())
        except UnavailableError as error:
            _LOGGER.warning("a logout could not be stored, it holds until the bridge stops: %s", error)

    @contextmanager
    def until_end(self, session: LoginSession, call: Callable[[], None]) -> Iterator[None]:
        """Call a function when a session ends or expires while the context is open."""
        calls = self._ending.setdefault(session.id, set())
        calls.add(call)
        timer = asyncio.get_running_loop().call_later(max(0.0, session.expires_at - self._now()), call)
        try:
            yield
        finally:
            timer.cancel()
            calls.discard(call)
            if not calls and self._ending.get(session.id) is calls:
                del self._ending[session.id]

    def csrf_token(self, session: LoginSession) -> str:
        """Return the token that proves that a form or a script comes from a page of this session."""
        return hmac.digest(self._csrf_key, session.id.encode(), "sha256").hex()[:32]

    async def _end_all(self) -> None:
        _LOGGER.warning("%d sessions were ended by logouts within a week: all sessions end", len(self._ended))
        self._ended.clear()
        for calls in tuple(self._ending.values()):
            for call in tuple(calls):
                call()
        key = secrets.token_bytes(32)
        self._use_key(key)
        await self._store.replace_key(key)

    def _read(self, value: str, cookie: str) -> LoginSession | None:
        now = self._now()
        try:
            token = value.encode("ascii")
            claims = orjson.loads(self._fernet.decrypt_at_time(token, IDLE_SECONDS, int(now)))
            used_at = self._fernet.extract_timestamp(token)
            session_id, created_at = claims["id"], claims["created"]
            # The login must still be the configured one: a changed password or a removed token ends its sessions.
            accounts = self._logins.named(claims["name"])
            account = next((one for one in accounts if self._fingerprint(one) == claims["login"]), None)
            is_own = claims["cookie"] == cookie
        except (InvalidToken, UnicodeEncodeError, ValueError, KeyError, TypeError):
            return None
        if account is None or not is_own or session_id in self._ended:
            return None
        if not -_MAX_SKEW_SECONDS <= now - created_at < MAX_SECONDS:
            return None
        return LoginSession(session_id, account, created_at, used_at, cookie)

    def _fingerprint(self, account: Account) -> str:
        login = f"{account.name}\0{account.secret.reveal()}".encode()
        return hmac.digest(self._login_key, login, "sha256").hex()[:32]

    def _use_key(self, key: bytes) -> None:
        self._fernet = Fernet(urlsafe_b64encode(hmac.digest(key, b"cookie", "sha256")))
        self._csrf_key = hmac.digest(key, b"csrf", "sha256")
        self._login_key = hmac.digest(key, b"login", "sha256")

    def _now(self) -> float:
        return self._clock.now().timestamp()


def cookie_name(*, is_secure: bool, is_at_root: bool) -> str:
    """Return the name of the cookie for a new session.

    Args:
        is_secure: whether the browser uses HTTPS.
        is_at_root: whether the page is known to have no path prefix in front of it.
    """
    if not is_secure:
        return _PLAIN
    return _HOST if is_at_root else _SECURE


def can_set_cookie(request: web.Request, name: str) -> bool:
    """Return whether the response to a request can set the cookie again.

    Without a path, a cookie holds for the folder of the request's path as the browser sees it. That is the page's root,
    behind any prefix, only if the bridge's own part of the path has no folder.
    """
    return name == _HOST or request.path.count("/") == 1


def set_cookie(response: web.StreamResponse, name: str, value: str, max_age: int) -> None:
    """Set the cookie of a session; `max_age` 0 deletes it.

    SameSite is Lax: with Strict, a link to the page in Home Assistant or in a mail would lead to the login page.
    Requests that change something need a CSRF token too.
    """
    attributes = [f"{name}={value}", f"Max-Age={max_age}", "HttpOnly", "SameSite=Lax"]
    if name == _HOST:
        attributes.append("Path=/")
    if name in (_HOST, _SECURE):
        attributes.append("Secure")
    response.headers.add(hdrs.SET_COOKIE, "; ".join(attributes))
