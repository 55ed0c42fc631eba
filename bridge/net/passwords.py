"""Passwords: plain or argon2 hashes, compared in constant time, each hash verified as rarely as possible."""

import asyncio
import hmac
import logging
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from argon2 import PasswordHasher as Argon2
from argon2 import extract_parameters
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

from bridge.model.secret import Secret

_LOGGER = logging.getLogger(__name__)

_T = TypeVar("_T")

Verify: TypeAlias = Callable[[Secret, str], Awaitable[bool]]
"""Returns whether a password or token (the second argument) is the stored one (plain text or a hash)."""

_HASH_PREFIX = "$argon2"


class VerifierBusyError(Exception):
    """Too many verifications wait already; try again in a few seconds."""


class QueueFullError(Exception):
    """The queue had no room for a job, or dropped it to make room for another address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierLimits:
    """Limits of a `PasswordVerifier`.

    Attributes:
        remembered_right: right passwords that are remembered; enough for 32,768 terminals with a password each.
        remembered_wrong: wrong passwords that are remembered, so that a terminal with a wrong password costs one
            verification. They are kept apart, because otherwise they could displace the right ones.
        waiting_known: verifications that may wait for known terminals and users. Each takes some 50 ms, so all
            are done well before their handshakes time out.
        waiting_unknown: verifications that may wait for unknown terminals. A new terminal tries again every few
            seconds, so a short queue is enough.
    """

    remembered_right: int = 32_768
    remembered_wrong: int = 1024
    waiting_known: int = 100
    waiting_unknown: int = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierStatistics:
    """A snapshot of a `PasswordVerifier`.

    Attributes:
        hashed: how many times a password was verified against a hash.
        remembered_right: right passwords that are remembered.
        remembered_wrong: wrong passwords that are remembered.
        pending: verifications that wait or run.
    """

    hashed: int
    remembered_right: int
    remembered_wrong: int
    pending: int


def is_hash(password: str) -> bool:
    """Return whether a password of the configuration is a hash."""
    return password.startswith(_HASH_PREFIX)


def is_usable(password: Secret) -> bool:
    """Return whether passwords can be verified against this one: it is plain text or a complete hash."""
    if not is_hash(password.reveal()):
        return True
    try:
        extract_parameters(password.reveal())
    except InvalidHashError:
        return False
    return True


def hash_password(password: str) -> str:
    """Return the argon2id hash of a password; takes some 50 ms."""
    return Argon2().hash(password)


class PasswordVerifier:
    """Verification of passwords for both servers.

    Verifying against a hash takes some 50 ms of processor time. The verifier remembers the result under a keyed digest
    of the password, so that ten thousand terminals that reconnect cost nothing, and neither does a wrong password that
    is sent again. Known and unknown terminals wait in separate queues, and each queue serves its addresses in turn:
    an address that tries thousands of passwords delays only itself and unknown terminals.
    """

    def __init__(self, limits: VerifierLimits | None = None) -> None:
        limits = limits or VerifierLimits()
        self._limits = limits
        self._key = secrets.token_bytes(32)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._wrong: OrderedDict[bytes, None] = OrderedDict()
        self._pending: dict[bytes, asyncio.Future[bool]] = {}
        self._threads = ThreadPoolExecutor(2, "password")
        self._known = FairQueue[bool](limits.waiting_known)
        self._unknown = FairQueue[bool](limits.waiting_unknown)
        self._hashed = 0

    def statistics(self) -> VerifierStatistics:
        """Return a snapshot."""
        return VerifierStatistics(
            hashed=self._hashed,
            remembered_right=len(self._right),
            remembered_wrong=len(self._wrong),
            pending=len(self._pending),
        )

    async def verify(self, stored: Secret, given: str, *, known: bool = True, address: str | None = None) -> bool:
        """Return whether a password is the stored one.

        Args:
            stored: plain text or a hash.
            given: the password to verify.
            known: whether the terminal or user exists.
            address: of the client, for its turn in the queue; None if the caller limits the number of callers itself.

        Raises:
            VerifierBusyError: the queue is full; never without an address.
        """
        expected = stored.reveal()
        if not is_hash(expected):
            return hmac.compare_digest(expected.encode(), given.encode(errors="surrogateescape"))
        digest = hmac.digest(self._key, f"{expected}\0{given}".encode(errors="surrogateescape"), "sha256")
        for remembered, right in ((self._right, True), (self._wrong, False)):
            if digest in remembered:
                remembered.move_to_end(digest)
                return right
        pending = self._pending.get(digest)
        if pending is None:
            pending = self._start(digest, expected, given, known=known, address=address)
        try:
            return await asyncio.shield(pending)
        except QueueFullError:
            raise VerifierBusyError from None

    async def hash(self, password: Secret) -> Secret:
        """Return the hash of a password; a password that is a hash already is returned unchanged."""
        if is_hash(password.reveal()):
            return password
        loop = asyncio.get_running_loop()
        return Secret(await loop.run_in_executor(self._threads, hash_password, password.reveal()))

    def close(self) -> None:
        """Cancel verifications that wait, and end the threads."""
        self._known.close()
        self._unknown.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(
        self, digest: bytes, expected: str, given: str, *, known: bool, address: str | None
    ) -> asyncio.Future[bool]:
        loop = asyncio.get_running_loop()

        def begin() -> asyncio.Future[bool]:
            self._hashed += 1
            return loop.run_in_executor(self._threads, _verify, expected, given)

        queue = self._known if known else self._unknown
        pending = begin() if address is None else queue.add(address, begin)
        self._pending[digest] = pending
        pending.add_done_callback(lambda done: self._done(digest, done))
        return pending

    def _done(self, digest: bytes, pending: asyncio.Future[bool]) -> None:
        del self._pending[digest]
        if pending.cancelled() or pending.exception() is not None:
            return
        if pending.result():
            remembered, maximum = self._right, self._limits.remembered_right
        else:
            remembered, maximum = self._wrong, self._limits.remembered_wrong
        remembered[digest] = None
        if len(remembered) > maximum:
            remembered.popitem(last=False)


def _verify(expected: str, given: str) -> bool:
    try:
        return Argon2().verify(expected, given.encode(errors="surrogateescape"))
    except VerifyMismatchError:
        return False
    except (VerificationError, InvalidHashError):
        _LOGGER.error("a stored password hash is invalid: replace it, `facebridge hash-password` makes a new one")  # noqa: TRY400  a traceback would show the hash
        return False


@dataclass(frozen=True, slots=True)
class _Job(Generic[_T]):
    begin: Callable[[], asyncio.Future[_T]]
    done: asyncio.Future[_T]


class FairQueue(Generic[_T]):
    """A queue of costly jobs that runs one at a time and serves its clients in turn (round robin).

    A full queue drops the last job of the client with the most waiting jobs.
    """

    def __init__(self, max_jobs: int) -> None:
        self._max_jobs = max_jobs
        self._jobs: OrderedDict[str, deque[_Job[_T]]] = OrderedDict()
        self._length = 0
        self._busy = False

    def __len__(self) -> int:
        return self._length

    def add(self, client: str, begin: Callable[[], asyncio.Future[_T]]) -> asyncio.Future[_T]:
        """Add a job.

        Args:
            client: the client that the job is for.
            begin: starts the job.

        Returns:
            The job's result; QueueFullError if the queue had no room for the job or dropped it for another client's.
        """
        job = _Job(begin, asyncio.get_running_loop().create_future())
        if self._length >= self._max_jobs and not self._make_room(client):
            job.done.set_exception(QueueFullError())
            return job.done
        self._jobs.setdefault(client, deque()).append(job)
        self._length += 1
        self._run_next()
        return job.done

    def close(self) -> None:
        """Cancel the jobs that wait."""
        for job in [job for jobs in self._jobs.values() for job in jobs]:
            job.done.cancel()
        self._jobs.clear()
        self._length = 0

    def _make_room(self, client: str) -> bool:
        longest = max(self._jobs, key=lambda one: len(self._jobs[one]))
        if len(self._jobs[longest]) <= len(self._jobs.get(client, ())) + 1:
            return False
        self._pop(longest, last=True).done.set_exception(QueueFullError())
        return True

    def _run_next(self) -> None:
        if self._busy or not self._jobs:
            return
        client = next(iter(self._jobs))
        job = self._pop(client)
        if client in self._jobs:
            self._jobs.move_to_end(client)
        self._busy = True

        def ended(work: asyncio.Future[_T]) -> None:
            self._busy = False
            if not job.done.done():
                if work.cancelled():
                    job.done.cancel()
                elif (error := work.exception()) is not None:
                    job.done.set_exception(error)
                else:
                    job.done.set_result(work.result())
            self._run_next()

        job.begin().add_done_callback(ended)

    def _pop(self, client: str, *, last: bool = False) -> _Job[_T]:
        jobs = self._jobs[client]
        job = jobs.pop() if last else jobs.popleft()
        if not jobs:
            del self._jobs[client]
        self._length -= 1
        return job
