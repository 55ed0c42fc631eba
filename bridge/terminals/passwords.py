"""Passwords: kept plain or as argon2 hashes, compared in constant time, hashed no more often than needed."""

import asyncio
import hmac
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher as Argon2
from argon2.exceptions import InvalidHashError, VerificationError

from bridge.model.secret import Secret

_PREFIX = "$argon2"
_REMEMBERED = 16_384
"""Results that are remembered: every terminal of a large building with a password of its own."""
_WAITING = 16
"""Strangers' verifications that may wait, at some 50 ms each: all are through well before their handshake ends."""


class VerifierBusyError(Exception):
    """Too many verifications wait already; try again in a few seconds."""


def is_hash(password: str) -> bool:
    """Tell whether a password of the configuration is a hash."""
    return password.startswith(_PREFIX)


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password, some 50 ms later."""
    return Argon2().hash(password)


class PasswordVerifier:
    """Verifies passwords for every face.

    A verification of a hash takes some 50 ms of a processor. Its result is remembered (as a keyed digest, not as the
    password), so that ten thousand terminals that connect again cost none, nor does a wrong password given again. Those
    who ask for a known terminal and strangers wait in lines of their own: whoever tries passwords by the thousand holds
    up strangers only.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._remembered: OrderedDict[bytes, bool] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._lanes = {known: ThreadPoolExecutor(1, "password") for known in (True, False)}
        self._strangers = 0
        self.hashed = 0
        """How often a hash was verified for real."""

    async def verify(self, stored: Secret, given: str, *, known: bool = True) -> bool:
        """Tell whether a password is the one that is stored.

        Args:
            stored: plain, or a hash.
            given: what somebody says it is.
            known: whether it is about a terminal or user that exists.

        Raises:
            VerifierBusyError: too many strangers wait already.
        """
        expected = stored.reveal()
        if not is_hash(expected):
            return hmac.compare_digest(expected.encode(), given.encode(errors="surrogateescape"))
        digest = hmac.digest(self._key, f"{expected}\0{given}".encode(errors="surrogateescape"), "sha256")
        if digest in self._remembered:
            self._remembered.move_to_end(digest)
            return self._remembered[digest]
        running = self._running.get(digest)
        if running is None:
            if not known and self._strangers >= _WAITING:
                raise VerifierBusyError
            running = self._start(digest, expected, given, known=known)
        return await asyncio.shield(running)

    async def hash(self, password: Secret) -> Secret:
        """Return a password's hash; one that is a hash already is returned as it is."""
        if is_hash(password.reveal()):
            return password
        loop = asyncio.get_running_loop()
        return Secret(await loop.run_in_executor(self._lanes[True], hash_password, password.reveal()))

    def close(self) -> None:
        """End the threads."""
        for lane in self._lanes.values():
            lane.shutdown(wait=False, cancel_futures=True)

    def _start(self, digest: bytes, expected: str, given: str, *, known: bool) -> asyncio.Future[bool]:
        running = asyncio.get_running_loop().run_in_executor(self._lanes[known], _verify, expected, given)
        self._running[digest] = running
        self._strangers += not known
        self.hashed += 1

        def ended(future: asyncio.Future[bool]) -> None:
            del self._running[digest]
            self._strangers -= not known
            if not future.cancelled():
                self._remembered[digest] = future.result()
                if len(self._remembered) > _REMEMBERED:
                    self._remembered.popitem(last=False)

        running.add_done_callback(ended)
        return running


def _verify(expected: str, given: str) -> bool:
    try:
        return Argon2().verify(expected, given.encode(errors="surrogateescape"))
    except (VerificationError, InvalidHashError):
        return False
