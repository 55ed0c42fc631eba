"""Verification of logins over HTTP: passwords and tokens, in a header or in the page's form, and their throttling."""

import asyncio
import hmac
import logging
import math
import secrets
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from aiohttp import hdrs

from bridge.config.settings import OWN_TOKEN, WebSettings
from bridge.core.clock import Clock
from bridge.model.secret import Secret
from bridge.net.client_identity import read_basic_credentials
from bridge.net.passwords import Verify, is_hash
from bridge.net.throttle import LoginThrottle, ThrottleLimits
from bridge.web.errors import RequestError

_LOGGER = logging.getLogger(__name__)

Role = Literal["admin", "operator"]
"""An operator reads and opens doors; an admin may do everything."""

_GUESSES_OF_USED_LOGINS = ThrottleLimits(max_failures=1_000, forget_seconds=3_600.0, max_keys=200)
"""Different wrong logins of an address after which right ones are refused too. Until then each of them can be a guess
of a login that passes: a guesser has a thousand an hour, and cannot lock out other clients of the address with ten."""

_ATTEMPTS_OF_ACCOUNT = ThrottleLimits(max_failures=100, forget_seconds=3_600.0, max_keys=1_000)
"""Different wrong logins of an account, from all addresses together. A guesser with many addresses has 3,000 a day."""

_GUESSES_OF_ACCOUNT = ThrottleLimits(max_failures=10_000, forget_seconds=3_600.0, max_keys=16)
"""As `_GUESSES_OF_USED_LOGINS`, for an account from all addresses together. Sessions that exist still work then."""

_MAX_REMEMBERED_LOGINS = 256
"""Right logins that are remembered: the user's and one for each token, a few of them in several spellings."""
_MAX_WAITING_LOGINS = 32
"""Logins that may wait for verification, one after the other at some 50 ms a hash: two seconds for all."""

_MAX_ACCOUNT_CHARACTERS = 128
"""Longer names are cut off where failures are counted."""


@dataclass(frozen=True, slots=True)
class Account:
    """A user or a token of the configuration.

    Attributes:
        name: `web.username`, or the token's name.
        role: the permissions.
        secret: the configured password or token, plain or as a hash.
    """

    name: str
    role: Role
    secret: Secret


@dataclass(frozen=True, slots=True)
class _Attempt:
    """A login to verify.

    Attributes:
        digest: recognises an equal login.
        account: the name in it, for counting failures; None if it has none.
        verify: returns the account if the login is right, compared only with the configured hashes (True), or only
            with what is plain (False).
    """

    digest: bytes
    account: str | None
    verify: Callable[[bool], Awaitable[Account | None]]


class Logins:
    """Verification of logins.

    The throttle counts different wrong logins of an address, and of an account. A program that sends the same outdated
    login again and again is no guesser: its login counts once, so it does not block other clients of the address. A
    right login does not reset the count: otherwise a user could guess the login of another one in between.

    A blocked address or account can still use logins that need no hashing: plain ones, and those that were right
    before. So a client that guesses does not lock out the others.
    """

    def __init__(self, settings: WebSettings, verify: Verify, clock: Clock) -> None:
        """Build the verification.

        Args:
            settings: the user and the tokens.
            verify: verifies passwords and tokens.
            clock: for throttling.
        """
        self._accounts: list[Account] = []
        if settings.username is not None and settings.password is not None:
            self._accounts.append(Account(settings.username, "admin", settings.password))
        self._tokens = [Account(name, token.role, token.hash) for name, token in settings.tokens.items()]
        self._verify = verify
        self._attempts_of_address = LoginThrottle[str](clock)
        self._attempts_of_account = LoginThrottle[str](clock, _ATTEMPTS_OF_ACCOUNT)
        self._guesses_of_address = LoginThrottle[str](clock, _GUESSES_OF_USED_LOGINS)
        self._guesses_of_account = LoginThrottle[str](clock, _GUESSES_OF_ACCOUNT)
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, Account] = {}
        self._lock = asyncio.Lock()
        self._waiting = 0

    @property
    def are_for_people(self) -> bool:
        """Whether people can sign in: there is a user, or a token that a person can know."""
        return bool(self._accounts) or any(token.name != OWN_TOKEN for token in self._tokens)

    def named(self, name: str) -> Iterator[Account]:
        """Return the accounts of a name; the user and a token can have the same one."""
        return (one for one in (*self._accounts, *self._tokens) if one.name == name)

    async def of_header(self, header: str, address: str) -> Account:
        """Return the account of an Authorization header.

        Args:
            header: Basic with the user's name and password, or Bearer with a token.
            address: of the client, for throttling.

        Raises:
            RequestError: the login is wrong (401), or cannot be verified now (429 or 503).
        """
        scheme, _, value = header.partition(" ")
        credentials = read_basic_credentials(header)

        async def verify(hashed: bool) -> Account | None:
            if scheme.lower() == "bearer":
                return await self._first_right(self._tokens, value.strip(), hashed)
            if credentials is None:
                return None
            return await self._with_name(self._accounts, credentials[0], credentials[1], hashed)

        account = None if credentials is None else credentials[0][:_MAX_ACCOUNT_CHARACTERS]
        return await self._account_of(_Attempt(self._digest(header), account, verify), address)

    async def of_form(self, name: str, password: str, address: str) -> Account:
        """Return the account of the page's login form: the user, or a token with its name.

        Args:
            name: of the user or the token.
            password: the password or the token.
            address: of the client, for throttling.

        Raises:
            RequestError: as for `of_header`.
        """

        async def verify(hashed: bool) -> Account | None:
            return await self._with_name([*self._accounts, *self._tokens], name, password, hashed)

        attempt = _Attempt(self._digest(f"form\0{name}\0{password}"), name[:_MAX_ACCOUNT_CHARACTERS], verify)
        return await self._account_of(attempt, address)

    def _digest(self, login: str) -> bytes:
        return hmac.digest(self._key, login.encode(errors="surrogateescape"), "sha256")

    async def _account_of(self, attempt: _Attempt, address: str) -> Account:
        _check(self._guesses_of_address, address)
        if attempt.account is not None:
            _check(self._guesses_of_account, attempt.account)
        # These logins do not wait behind the verification of a guess.
        account = self._remembered.get(attempt.digest) or await attempt.verify(False)
        if account is not None:
            return account
        self._check_known(attempt, address)
        if self._waiting >= _MAX_WAITING_LOGINS:
            message = "too many logins are being verified; try again"
            raise RequestError(503, message, headers={hdrs.RETRY_AFTER: "2"})
        self._waiting += 1
        try:
            async with self._lock:
                # Check again: an earlier request may have verified the same login, or its failure blocked the address.
                account = self._remembered.get(attempt.digest)
                if account is None:
                    self._check_known(attempt, address)
                    account = await self._verify_new(attempt, address)
                return account
        finally:
            self._waiting -= 1

    def _check_known(self, attempt: _Attempt, address: str) -> None:
        """Raise RequestError if the address or the account is blocked, or if this login was wrong before."""
        blocked = self._attempts_of_address.seconds_blocked(address) > 0
        if attempt.account is not None:
            blocked = blocked or self._attempts_of_account.seconds_blocked(attempt.account) > 0
        if blocked:
            self._count_guess(attempt, address)
        _check(self._attempts_of_address, address)
        if self._attempts_of_address.is_known_failure(address, attempt.digest):
            raise wrong_login()
        if attempt.account is not None:
            _check(self._attempts_of_account, attempt.account)

    async def _verify_new(self, attempt: _Attempt, address: str) -> Account:
        account = await attempt.verify(True)
        if account is None:
            self._attempts_of_address.failed(address, attempt.digest)
            if attempt.account is not None:
                _count(self._attempts_of_account, attempt.account, attempt.digest)
            self._count_guess(attempt, address)
            _LOGGER.warning("wrong login from %s", address, extra={"address": address})
            raise wrong_login()
        if len(self._remembered) >= _MAX_REMEMBERED_LOGINS:
            self._remembered.clear()
        self._remembered[attempt.digest] = account
        return account

    def _count_guess(self, attempt: _Attempt, address: str) -> None:
        _count(self._guesses_of_address, address, attempt.digest)
        # Names that do not exist must not displace those that do.
        if attempt.account is not None and next(self.named(attempt.account), None) is not None:
            _count(self._guesses_of_account, attempt.account, attempt.digest)

    async def _with_name(self, accounts: list[Account], name: str, password: str, hashed: bool) -> Account | None:
        """Return the account with this name and password."""
        given = name.encode(errors="surrogateescape")
        same = [one for one in accounts if hmac.compare_digest(one.name.encode(), given)]
        found = await self._first_right(same, password, hashed)
        if not same:
            # An unknown name takes as long as a known one.
            await self._first_right(accounts[:1], password, hashed)
        return found

    async def _first_right(self, accounts: list[Account], password: str, hashed: bool) -> Account | None:
        for one in accounts:
            if is_hash(one.secret.reveal()) == hashed and await self._verify(one.secret, password):
                return one
        return None


def wrong_login(message: str = "wrong login") -> RequestError:
    """Return the error for a missing or wrong login."""
    challenge = 'Basic realm="Facebridge", charset="UTF-8"'
    return RequestError(401, message, path=hdrs.AUTHORIZATION, headers={hdrs.WWW_AUTHENTICATE: challenge})


def _check(throttle: LoginThrottle[str], key: str) -> None:
    """Raise RequestError if an address or an account is blocked."""
    seconds = throttle.seconds_blocked(key)
    if seconds > 0:
        raise RequestError(429, "too many wrong logins", headers={hdrs.RETRY_AFTER: str(math.ceil(seconds))})


def _count(throttle: LoginThrottle[str], key: str, digest: bytes) -> None:
    if not throttle.is_known_failure(key, digest):
        throttle.failed(key, digest)
