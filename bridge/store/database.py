"""An open store: plain functions run on its threads, each in a transaction."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, select, update

from bridge.model.faults import UnavailableError
from bridge.store.counters import put_counter
from bridge.store.direct import run_on_driver
from bridge.store.engine import BUSY_TIMEOUT_SECONDS, READERS, WriterConnection, open_engine, reading
from bridge.store.errors import CommitUnknownError, DamagedPartError, NamesDamagedError, is_rolled_back, mapped_errors
from bridge.store.failure_messages import describe
from bridge.store.person_names import NAMES_DAMAGED, leave_alone
from bridge.store.tables import COUNTER
from bridge.store.threads import call_on_loop, run_in_thread, settle, start_thread

_LOGGER = logging.getLogger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

_GROUP_SECONDS = 0.03
"""Time after which a transaction takes no further function: with the last one, which may take as long, and the commit,
a transaction takes less than 100 ms."""

_GROUP_FUNCTIONS = 100
"""Functions in one transaction: beyond this number the share of a commit that each one pays is negligible."""

_REACHABLE_SECONDS = 3.0
"""Time after which a store that does not answer counts as unreachable; monitors ask every ten seconds or so."""

_CLOSED = "the store is closed"


@dataclass(slots=True, eq=False)
class _Job(Generic[_T]):
    """A function that waits for a thread, and then what became of it.

    Attributes:
        function: runs in a transaction.
        ended: set on the event loop.
        is_alone: whether the function runs outside any transaction.
        result: what the function returned.
        error: why its changes are not stored, or may not be.
    """

    function: Callable[[Connection], _T]
    ended: asyncio.Future[_T]
    is_alone: bool = False
    result: _T | None = None
    error: Exception | None = None

    def run(self, connection: Connection) -> None:
        """Call the function and keep its result or its error."""
        try:
            with mapped_errors():
                self.result = self.function(connection)
        except Exception as error:  # noqa: BLE001  the caller gets it
            self.error = error


PROBE_SECONDS = 30.0
"""Time after a failed transaction for which only another transaction shows that the store can be written to again. A
small one may succeed on a full disk, so this is not tried all the time."""


class Database:
    """An open store with its threads: one that writes and a few that read.

    A function that is passed to `read`, `write` or `submit` runs on one of them. It must touch nothing that the event
    loop's thread uses; the connection, immutable arguments and its result are all it needs.
    """

    def __init__(self, engine: Engine) -> None:
        """Start the threads.

        Args:
            engine: of `open_engine`; its schema is up to date.
        """
        self._engine = engine
        # Used by the writer's thread only.
        self._writer = WriterConnection(engine)
        self._loop = asyncio.get_running_loop()
        self._reads: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._writes: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        # Functions of `submit_deferred`; the writer's thread and the event loop's take from it.
        self._deferred: deque[_Job[Any]] = deque()
        self._deferred_timer: asyncio.TimerHandle | None = None
        # Used by the writer's thread only: jobs that it took from the queue but must run after the present group.
        self._postponed: deque[_Job[Any]] = deque()
        self._is_closed = False
        # Set by the writer's thread only.
        self._write_problem: str | None = None
        self._problem_since = 0.0
        self._write_watcher: Callable[[str | None], None] | None = None
        self._names_watcher: Callable[[], None] | None = None
        self._thread_ends = [
            self._start(self._run_writer, "store writer"),
            *(self._start(self._run_reader, f"store reader {number}") for number in range(READERS)),
        ]

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        busy_timeout: float = BUSY_TIMEOUT_SECONDS,
        may_upgrade: bool = True,
        must_exist: bool = False,
    ) -> "Database":
        """Open a store, create it if it is missing, check it, and upgrade its schema.

        The arguments and errors are those of `open_engine`.
        """
        return cls(
            await run_in_thread(
                open_engine, url, busy_timeout=busy_timeout, may_upgrade=may_upgrade, must_exist=must_exist
            )
        )

    @property
    def write_problem(self) -> str | None:
        """Why the last transaction could not be written; None if it was written."""
        return self._write_problem

    def watch_writes(self, watcher: Callable[[str | None], None]) -> None:
        """Call `watcher` on the event loop with `write_problem` whenever that changes."""
        self._write_watcher = watcher

    @property
    def file(self) -> Path | None:
        """The file of the store; None with a database server."""
        url = self._engine.url
        return Path(url.database or "") if url.get_backend_name() == "sqlite" else None

    def watch_names(self, watcher: Callable[[], None]) -> None:
        """Call `watcher` on the event loop when the names for searches are found to be damaged."""
        self._names_watcher = watcher

    @property
    def engine(self) -> Engine:
        """The engine of SQLAlchemy, to observe it or to let it fail in tests."""
        return self._engine

    async def close(self) -> None:
        """Finish the functions that wait, and close every connection."""
        if not self._is_closed:
            self._is_closed = True
            self._queue_deferred()
            self._writes.put(None)
            for _ in range(READERS):
                self._reads.put(None)
        await asyncio.wait(self._thread_ends)
        with mapped_errors():
            await run_in_thread(self._engine.dispose)

    async def read(
        self, function: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Run `function(connection, *args, **kwargs)` on a reader's thread and return its result.

        All its queries see the same state of the store.

        Raises:
            UnavailableError: the store cannot be read.
        """
        if self._is_closed:
            raise UnavailableError(_CLOSED)
        ended: asyncio.Future[_T] = self._loop.create_future()
        self._reads.put(_Job(lambda connection: function(connection, *args, **kwargs), ended))
        return await ended

    async def write(
        self, function: Callable[Concatenate[Connection, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Run `function(connection, *args, **kwargs)` on the writer's thread; return its result after the commit.

        A caller that is cancelled does not cancel the function. An exception in the function undoes its changes.

        Raises:
            UnavailableError: the store is full, locked or unreachable; nothing was changed.
            CommitUnknownError: the changes may be stored or not.
        """
        ended = self.submit(lambda connection: function(connection, *args, **kwargs))
        try:
            # Waiting for the future itself would cancel it together with the caller.
            await asyncio.wait((ended,))
        except asyncio.CancelledError:
            ended.add_done_callback(_log_unexpected)
            raise
        return ended.result()

    def submit(self, function: Callable[[Connection], _T]) -> "asyncio.Future[_T]":
        """Queue a function for the writer's thread, as `write` does.

        Returns:
            The result or the error, as `write` has it. The futures of several calls are set in the order of the
            calls, which is also the order of the commits.
        """
        ended: asyncio.Future[_T] = self._loop.create_future()
        if self._is_closed:
            ended.set_exception(UnavailableError(_CLOSED))
        else:
            self._writes.put(_Job(function, ended))
        return ended

    def submit_deferred(self, function: Callable[[Connection], _T], seconds: float) -> "asyncio.Future[_T]":
        """Queue a function that may wait for another transaction, to share its commit.

        A commit of its own would take 1 ms of processor time and a write to the disk.

        Args:
            function: as for `submit`. It must not depend on the order of the others.
            seconds: time after which it gets a transaction of its own.

        Returns:
            The result or the error, as `write` has it.
        """
        ended: asyncio.Future[_T] = self._loop.create_future()
        if self._is_closed:
            ended.set_exception(UnavailableError(_CLOSED))
            return ended
        self._deferred.append(_Job(function, ended))
        if self._deferred_timer is None:
            self._deferred_timer = self._loop.call_later(seconds, self._queue_deferred)
        return ended

    def _queue_deferred(self) -> None:
        if self._deferred_timer is not None:
            self._deferred_timer.cancel()
            self._deferred_timer = None
        while (job := self._next_deferred()) is not None:
            self._writes.put(job)

    def _next_deferred(self) -> _Job[Any] | None:
        # The other thread may take the last one between a check and this.
        with suppress(IndexError):
            return self._deferred.popleft()
        return None

    async def reachable(self) -> bool:
        """Return whether the store answers, and can be written to if the last transaction could not."""
        try:
            async with asyncio.timeout(_REACHABLE_SECONDS):
                await self.read(_read_counter)
                if self._write_problem is not None:
                    if perf_counter() - self._problem_since < PROBE_SECONDS:
                        return False
                    await self.write(_write_counter)
        except (UnavailableError, TimeoutError):
            return False
        return True

    async def checkpoint(self) -> bool:
        """Move SQLite's write-ahead log into the file and empty it, so that deleted data cannot be read any more.

        PostgreSQL's vacuum does the equivalent by itself.

        Returns:
            False if another program still reads the state before, a backup for example.

        Raises:
            UnavailableError: not possible now.
        """
        if self._engine.dialect.name != "sqlite":
            return True
        if self._is_closed:
            raise UnavailableError(_CLOSED)
        ended: asyncio.Future[bool] = self._loop.create_future()
        self._writes.put(_Job(_checkpoint, ended, is_alone=True))
        return await ended

    def _start(self, run: Callable[[], None], name: str) -> "asyncio.Future[None]":
        ended: asyncio.Future[None] = self._loop.create_future()

        def run_and_report() -> None:
            try:
                run()
            finally:
                call_on_loop(self._loop, settle, ended, None, None)

        start_thread(run_and_report, name)
        return ended

    # From here on: on the threads.

    def _run_reader(self) -> None:
        while (job := self._reads.get()) is not None:
            if job.ended.cancelled():
                # A store that has stopped answering would otherwise still be asked for all callers that gave up.
                continue
            try:
                with mapped_errors(), reading(self._engine) as connection:
                    job.run(connection)
            except Exception as error:  # noqa: BLE001  the caller gets it
                job.error = error
            call_on_loop(self._loop, _report, [job])

    def _run_writer(self) -> None:
        with closing(self._writer):
            self._write_groups()

    def _write_groups(self) -> None:
        while (job := self._next_write()) is not None:
            group = [job]
            try:
                with mapped_errors():
                    if job.is_alone:
                        self._run_alone(job)
                    else:
                        self._run_group(group)
                        self._note_writes(group)
            except UnavailableError as error:
                _fail(group, error)
                self._note_write(str(error))
            except Exception as error:
                _LOGGER.exception("the store's writer failed")
                _fail(group, error)
            call_on_loop(self._loop, _report, group)

    def _note_writes(self, group: list[_Job[Any]]) -> None:
        """Note whether the functions of a group could be written; one that failed for another reason says nothing."""
        failed = next((job.error for job in group if isinstance(job.error, UnavailableError)), None)
        if failed is not None:
            self._note_write(str(failed))
        elif any(job.error is None for job in group):
            self._note_write(None)

    def _note_write(self, problem: str | None) -> None:
        if problem == self._write_problem:
            return
        self._write_problem = problem
        self._problem_since = perf_counter()
        if self._write_watcher is not None:
            call_on_loop(self._loop, self._write_watcher, problem)

    def _next_write(self) -> _Job[Any] | None:
        return self._postponed.popleft() if self._postponed else self._writes.get()

    def _run_alone(self, job: _Job[Any]) -> None:
        with self._engine.connect() as connection:
            job.run(connection)

    def _run_group(self, group: list[_Job[Any]]) -> None:
        """Run a function, and those that wait behind it, in one transaction; add these to the group.

        The first needs no savepoint: if it fails, the transaction holds nothing else yet.
        """
        with self._writer.begin() as connection:
            until = perf_counter() + _GROUP_SECONDS
            group[0].run(connection)
            if isinstance(group[0].error, NamesDamagedError):
                self._repeat_without_names(group)
            if not group or group[0].error is not None:
                return
            while len(group) < _GROUP_FUNCTIONS and perf_counter() < until:
                job = self._next_deferred() or self._waiting_write()
                if job is None:
                    break
                group.append(job)
                _run_in_savepoint(connection, job)
                if isinstance(job.error, NamesDamagedError):
                    self._repeat_without_names(group)
                    return
            _commit(connection, group)

    def _repeat_without_names(self, group: list[_Job[Any]]) -> None:
        """Let the functions of a group run again, in a transaction that does not use the damaged names for searches.

        SQLite refuses all later statements of the present one.
        """
        leave_alone(self._engine)
        for job in group:
            job.result = job.error = None
        noted: asyncio.Future[None] = self._loop.create_future()
        # A store that cannot be written to notes it at the next damage.
        noted.add_done_callback(lambda ended: ended.exception())
        note: _Job[None] = _Job(partial(put_counter, name=NAMES_DAMAGED, value=1), noted)
        self._postponed.extendleft(reversed([*group, note]))
        group.clear()
        if self._names_watcher is not None:
            call_on_loop(self._loop, self._names_watcher)

    def _waiting_write(self) -> _Job[Any] | None:
        if self._postponed:
            return None if self._postponed[0].is_alone else self._postponed.popleft()
        try:
            job = self._writes.get_nowait()
        except Empty:
            return None
        if job is None:
            # `close` was called; nothing can come behind this.
            self._writes.put(None)
            return None
        if job.is_alone:
            self._postponed.append(job)
            return None
        return job


def _run_in_savepoint(connection: Connection, job: _Job[Any]) -> None:
    """Run a function so that its failure undoes only its own changes."""
    # SQLAlchemy would give each savepoint another name, and the driver would compile the statements each time.
    run_on_driver(connection, "SAVEPOINT one_function")
    job.run(connection)
    if isinstance(job.error, NamesDamagedError):
        # The whole transaction is rolled back.
        return
    if job.error is not None:
        run_on_driver(connection, "ROLLBACK TO SAVEPOINT one_function")
    run_on_driver(connection, "RELEASE SAVEPOINT one_function")
    if job.error is not None:
        _require_transaction(connection)


def _require_transaction(connection: Connection) -> None:
    """Raise UnavailableError if the transaction has ended by itself.

    SQLite ends it at some errors (a full disk, for example), PostgreSQL when the connection breaks. What was written
    after that would be committed statement by statement, and a COMMIT would confirm changes that are gone.
    """
    driver = None if connection.invalidated else connection.connection.driver_connection
    if driver is None or not getattr(driver, "in_transaction", True):
        raise UnavailableError("the store ended the transaction")


def _commit(connection: Connection, group: list[_Job[Any]]) -> None:
    _require_transaction(connection)
    try:
        connection.commit()
    except Exception as error:
        # SQLAlchemy would return the connection to the pool in the middle of the transaction; closing it rolls back.
        connection.invalidate()
        if is_rolled_back(error):
            raise
        _LOGGER.warning("a commit failed, and it is not known whether its changes are stored: %s", describe(error))
        for job in group:
            if job.error is None:
                job.error = CommitUnknownError(f"{describe(error)}; the change may be stored or not", job.result)


def _fail(group: list[_Job[Any]], error: Exception) -> None:
    """Let the callers know that nothing was changed; each gets an exception object of its own, as it adds to it."""
    for job in group:
        if job.error is None:
            kind = DamagedPartError if isinstance(error, DamagedPartError) else UnavailableError
            job.error = kind(str(error) if isinstance(error, UnavailableError) else "the store failed")
            job.error.__cause__ = error.__cause__


def _report(group: list[_Job[Any]]) -> None:
    """Complete the callers in their order; runs on the event loop."""
    for job in group:
        settle(job.ended, job.result, job.error)


def _log_unexpected(ended: "asyncio.Future[Any]") -> None:
    error = ended.exception()
    if error is not None and not isinstance(error, UnavailableError):
        _LOGGER.error("a change to the store failed whose caller was cancelled", exc_info=error)


def _read_counter(connection: Connection) -> None:
    connection.execute(select(COUNTER.c.value)).all()


def _write_counter(connection: Connection) -> None:
    connection.execute(update(COUNTER).values(value=COUNTER.c.value))


def _checkpoint(connection: Connection) -> bool:
    driver = connection.connection.driver_connection
    assert driver is not None
    busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy
