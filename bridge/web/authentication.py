"""The checks that every request passes: foreign websites, the login, the session, CSRF tokens, roles."""

import hmac
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address

from aiohttp import hdrs, web

from bridge.config.settings import WebSettings
from bridge.core.clock import Clock
from bridge.net.client_identity import client_address, client_scheme, throttled_address
from bridge.net.passwords import Verify
from bridge.web.errors import RequestError
from bridge.web.logins import Account, Logins, Role, wrong_login
from bridge.web.same_origin import SameOriginCheck, is_loopback
from bridge.web.sessions import LoginSession, Sessions, SessionStore, can_set_cookie, cookie_name, set_cookie

_PATH_WITHOUT_LOGIN = "/healthz"
PATH_WITH_OPTIONAL_LOGIN = "/readyz"
"""Answers everyone, but only a user learns the details."""

LOGIN_PATH = "/login"
_PUBLIC_PATHS = (LOGIN_PATH, "/preferences")
_PUBLIC_FOLDER = "/static/"
"""The login page, its files, and the choice of its language need no login; all of it is the same for everyone."""

SAFE_METHODS = frozenset((hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS))
"""Methods that change nothing, and need no CSRF token."""

_FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")

CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf"
"""Scripts send the token of the session as a header, forms as a field."""


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

SESSION: web.RequestKey[LoginSession] = web.RequestKey("session", LoginSession)
"""Set on every request whose user has signed in to the page."""

CSRF_TOKEN: web.RequestKey[str] = web.RequestKey("csrf_token", str)
"""The token of the session; set with it."""

_SESSIONS: web.RequestKey[Sessions] = web.RequestKey("sessions", Sessions)
_NEEDS_FORM_TOKEN: web.RequestKey[bool] = web.RequestKey("needs_form_token", bool)

_BROWSER_HEADERS = ("Referer", "Sec-Fetch-Mode", "HX-Request")
"""A page's own requests carry at least one of them: pictures, scripts and the stream of events too."""

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


def require_form_token(request: web.Request, fields: Mapping[str, str]) -> None:
    """Check the CSRF token of a form, if the request needs one. Every reader of a form calls this.

    Args:
        request: the request.
        fields: the fields that were read.

    Raises:
        RequestError: the token is missing or wrong.
    """
    if request.get(_NEEDS_FORM_TOKEN):
        _check_token(request, fields.get(CSRF_FIELD, ""))


@contextmanager
def until_logout(request: web.Request, call: Callable[[], None]) -> Iterator[None]:
    """Call a function if the session of a request ends or expires while the context is open."""
    if SESSION not in request:
        yield
        return
    with request[_SESSIONS].until_end(request[SESSION], call):
        yield


class Security:
    """The checks that every request passes before a handler runs, and the sessions of people."""

    def __init__(self, settings: WebSettings, verify: Verify, clock: Clock, store: SessionStore | None) -> None:
        """Build the checks.

        Args:
            settings: address, logins and proxies.
            verify: verifies passwords and tokens.
            clock: for throttling and sessions.
            store: keeps the sessions' key; None: there is no page to sign in to.
        """
        self._settings = settings
        self._same_origin = SameOriginCheck(settings)
        self._logins = Logins(settings, verify, clock) if _needs_login(settings) else None
        self._sessions = None if self._logins is None or store is None else Sessions(store, self._logins, clock)

    async def start(self) -> None:
        """Read the sessions' key. Raises UnavailableError."""
        if self._sessions is not None:
            await self._sessions.load()

    async def check(self, request: web.Request) -> None:
        """Set the request's `USER`. Raises RequestError for a request that is not allowed."""
        via_ingress = self._settings.ingress is not None and _is_in(request.remote, self._settings.ingress)
        self._same_origin.check(request, scheme=self._scheme(request), via_ingress=via_ingress)
        request[VIA_INGRESS] = via_ingress
        if request.path == _PATH_WITHOUT_LOGIN:
            return
        if via_ingress:
            # The Supervisor has checked the login.
            request[USER] = User(_home_assistant_user(request), "admin")
        elif self._logins is None:
            request[USER] = User(None, "admin")
        else:
            await self._check_login(request, self._logins)

    async def _check_login(self, request: web.Request, logins: Logins) -> None:
        session = self._read_session(request)
        header = request.headers.get(hdrs.AUTHORIZATION)
        is_optional = request.path == PATH_WITH_OPTIONAL_LOGIN or self._is_public(request)
        if header is None and session is None:
            if not is_optional:
                raise _without_dialog(request, wrong_login("a login is needed"))
            return
        if header is not None:
            try:
                account = await logins.of_header(header, self._address(request))
            except RequestError as error:
                # A browser that once showed a dialog sends its password on and on, also an outdated one.
                if session is None and not is_optional:
                    raise _without_dialog(request, error) from None
            else:
                request[USER] = _user(account)
                return
        if session is not None:
            self._use_session(request, session)

    async def log_in(self, request: web.Request, name: str, password: str) -> tuple[LoginSession, str]:
        """Verify the login of the page's form, and begin a session. An earlier session of the browser ends.

        Returns:
            The session and the value of its cookie.

        Raises:
            RequestError: the login is wrong (401), or cannot be verified now (429 or 503).
        """
        assert self._logins is not None
        assert self._sessions is not None
        account = await self._logins.of_form(name, password, self._address(request))
        if SESSION in request:
            await self._sessions.end(request[SESSION])
        cookie = cookie_name(is_secure=self._is_https(request), is_at_root=self._same_origin.is_at_root(request))
        session = self._sessions.begin(account, cookie)
        return session, self._sessions.value(session)

    async def log_out(self, request: web.Request) -> None:
        """End the session of a request, with its streams."""
        if self._sessions is not None and SESSION in request:
            await self._sessions.end(request[SESSION])

    @property
    def has_sessions(self) -> bool:
        """Whether people sign in to the page."""
        return self._sessions is not None

    @property
    def has_logins(self) -> bool:
        """Whether the configuration has a user or a token with which people sign in."""
        return self._logins is not None and self._logins.are_for_people

    def renew(self, request: web.Request, response: web.StreamResponse) -> None:
        """Renew the cookie of a request's session, if that is due and possible."""
        session = request.get(SESSION)
        if self._sessions is None or session is None or response.prepared or hdrs.SET_COOKIE in response.headers:
            return
        if self._sessions.is_due(session) and can_set_cookie(request, session.cookie):
            renewed = self._sessions.renewed(session)
            set_session_cookie(response, renewed, self._sessions.value(renewed))

    def _read_session(self, request: web.Request) -> LoginSession | None:
        if self._sessions is None:
            return None
        return self._sessions.read(request.cookies, is_secure=self._is_https(request))

    def _use_session(self, request: web.Request, session: LoginSession) -> None:
        """Set user and session of a request. Raises RequestError if it lacks the CSRF token."""
        assert self._sessions is not None
        request[USER] = _user(session.account)
        request[SESSION] = session
        request[_SESSIONS] = self._sessions
        request[CSRF_TOKEN] = self._sessions.csrf_token(session)
        # The login form can be older than the session: another tab may have signed in meanwhile.
        if request.method in SAFE_METHODS or request.path == LOGIN_PATH:
            return
        is_form = request.content_type in _FORM_TYPES and not request.path.startswith("/api/")
        if CSRF_HEADER not in request.headers and is_form:
            # `require_form_token` checks the field.
            request[_NEEDS_FORM_TOKEN] = True
        else:
            _check_token(request, request.headers.get(CSRF_HEADER, ""))

    def _is_public(self, request: web.Request) -> bool:
        return self._sessions is not None and (request.path in _PUBLIC_PATHS or request.path.startswith(_PUBLIC_FOLDER))

    def _address(self, request: web.Request) -> str:
        peer, forwarded_for = request.remote or "unknown", request.headers.getall(hdrs.X_FORWARDED_FOR, ())
        return throttled_address(client_address(peer, forwarded_for, self._settings.trusted_proxies))

    def _scheme(self, request: web.Request) -> str:
        forwarded = request.headers.getall(hdrs.X_FORWARDED_PROTO, ())
        return client_scheme(request.remote or "", request.scheme, forwarded, self._settings.trusted_proxies)

    def _is_https(self, request: web.Request) -> bool:
        """Return whether the browser is known to use HTTPS; a proxy in between may not say so.

        Browsers name the page's address in `Origin`, and the check of the origin has compared it.
        """
        return self._scheme(request) == "https" or request.headers.get(hdrs.ORIGIN, "").startswith("https://")


def set_session_cookie(response: web.StreamResponse, session: LoginSession, value: str) -> None:
    """Set the cookie of a session; without a value, delete it."""
    set_cookie(response, session.cookie, value, session.expires_at - session.used_at if value else 0)


def _user(account: Account) -> User:
    return User(account.name, account.role)


def _check_token(request: web.Request, token: str) -> None:
    """Raise RequestError if a CSRF token is not that of the request's session; compared in constant time."""
    if not hmac.compare_digest(request[CSRF_TOKEN].encode(), token.encode(errors="surrogateescape")):
        raise RequestError(403, "the page is from an earlier session: load it again", path=CSRF_HEADER)


def _without_dialog(request: web.Request, error: RequestError) -> RequestError:
    """Return the error without the challenge that makes browsers show a dialog, if a browser shows the page."""
    is_browser = any(name in request.headers for name in _BROWSER_HEADERS) or accepts_html(request)
    if not is_browser or error.status != 401:
        return error
    return RequestError(error.status, error.message, path=error.path)


def accepts_html(request: web.Request) -> bool:
    """Return whether a request is a browser's navigation rather than a program's."""
    return "text/html" in request.headers.get(hdrs.ACCEPT, "")


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
