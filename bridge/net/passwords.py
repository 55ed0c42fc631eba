"""Passwords: kept plain or as argon2 hashes, compared in constant time, hashed no more often than needed."""

import asyncio
import hmac
import logging
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher as Argon2
from argon2 import extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from bridge.model.secret import Secret
from bridge.net.fair_queue import FairQueue, FullError

_LOGGER = logging.getLogger(__name__)

_PREFIX = "$argon2"
_RIGHT_REMEMBERED = 32_768
"""Right passwords that are remembered: every terminal of the largest building with a password of its own."""
_WRONG_REMEMBERED = 1024
"""Wrong ones, apart from the right ones, which they could else push out: a terminal's that is set up wrongly."""
_WAITING = 100
"""Verifications about known terminals that may wait, at some 50 ms each: all are through well before their handshake
ends."""
_STRANGERS_WAITING = 16
"""Verifications about unknown ones that may wait: at most one in some seconds comes from somebody who means it."""


class VerifierBusyError(Exception):
    """Too many verifications wait already; try again in a few seconds."""


def is_hash(password: str) -> bool:
    """Tell whether a password of the configuration is a hash."""
    return password.startswith(_PREFIX)


def is_usable(password: Secret) -> bool:
    """Tell whether passwords can be verified against this one: it is plain, or a whole hash."""
    if not is_hash(password.reveal()):
        return True
    try:
        extract_parameters(password.reveal())
    except InvalidHashError:
        return False
    return True


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password, some 50 ms later."""
    return Argon2().hash(password)


class PasswordVerifier:
    """Verifies passwords for every face.

    A verification of a hash takes some 50 ms of a processor. Its result is remembered (as a keyed digest, not as the
    password), so that ten thousand terminals that connect again cost none, nor does a wrong password given again. Those
    who ask for a known terminal and strangers wait apart, and in either line every address has its turn: whoever tries
    passwords by the thousand holds up nobody but strangers and their own address.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._running: dict[bytes, asyncio.Future[bool]] = {}
        self._threads = ThreadPoolExecutor(2, "password")
        self._lines = {True: FairQueue[bool](_WAITING), False: FairQueue[bool](_STRANGERS_WAITING)}
        self.hashed = 0
        """How often a hash was verified for real."""

    async def verify(self, stored: Secret, given: str, *, known: bool = True, address: str | None = None) -> bool:
        """Tell whether a password is the one that is stored.

        Args:
            stored: plain, or a hash.
            given: what somebody says it is.
            known: whether it is about a terminal or user that exists.
            address: of who says so, to be served in turn; None where the caller lets only a few ask at once.

        Raises:
            VerifierBusyError: too many addresses wait already; never without an address.
        """
        expected = stored.reveal()
        if not is_hash(expected):
            return hmac.compare_digest(expected.encode(), given.encode(errors="surrogateescape"))
        digest = hmac.digest(self._key, f"{expected}\0{given}".encode(errors="surrogateescape"), "sha256")
        for remembered, right in ((self._right, True), (self._wrong, False)):
            if digest in remembered:
                remembered.move_to_end(digest)
                return right
        running = self._running.get(digest)
        if running is None:
            running = self._start(digest, expected, given, known=known, address=address)
        try:
            return await asyncio.shield(running)
        except FullError:
            raise VerifierBusyError from None

    async def hash(self, password: Secret) -> Secret:
        """Return a password's hash; one that is a hash already is returned as it is."""
        if is_hash(password.reveal()):
            return password
        loop = asyncio.get_running_loop()
        return Secret(await loop.run_in_executor(self._threads, hash_password, password.reveal()))

    def close(self) -> None:
        """End the threads."""
        for line in self._lines.values():
            line.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(
        self, digest: bytes, expected: str, given: str, *, known: bool, address: str | None
    ) -> asyncio.Future[bool]:
        loop = asyncio.get_running_loop()

        def begin() -> asyncio.Future[bool]:
            self.hashed += 1
            return loop.run_in_executor(self._threads, _verify, expected, given)

        running = begin() if address is None else self._lines[known].wait(address, begin)
        self._running[digest] = running
        running.add_done_callback(lambda ended: self._ended(digest, ended))
        return running

    def _ended(self, digest: bytes, running: asyncio.Future[bool]) -> None:
        del self._running[digest]
        if running.cancelled() or running.exception() is not None:
            return
        remembered, maximum = (self._right, _RIGHT_REMEMBERED) if running.result() else (self._wrong, _WRONG_REMEMBERED)
        remembered[digest] = None
        if len(remembered) > maximum:
            remembered.popitem(last=False)


def _verify(expected: str, given: str) -> bool:
    try:
        return Argon2().verify(expected, given.encode(errors="surrogateescape"))
    except VerifyMismatchError:
        return False
    except (VerificationError, InvalidHashError):
        _LOGGER.error("a stored hash cannot be verified against: make it again with `facebridge hash-password`")  # noqa: TRY400  a traceback would show it
        return False
