"""Converts pictures in worker processes, which are ended and replaced if a picture takes too long or crashes them."""

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass

from bridge.model.faults import InvalidError, UnavailableError
from bridge.model.messages import decode_message, message
from bridge.persons.photos.worker import ANSWER, READY, REQUEST, Status, receive

_LOGGER = logging.getLogger(__name__)

_ATTEMPTS = 2
"""Attempts at a picture whose worker has died or does not answer. The reason may be another program, for example the
kernel that needs memory. The second time it is taken for the picture."""

_MAXIMUM_ANSWER_BYTES = 16 * 1024 * 1024
"""Of what follows an answer's header: well above every photo. The bridge does not trust a worker, because a decoder may
have a security hole."""

_INHERITED_VARIABLES = ("LD_LIBRARY_PATH",)
"""The environment variables that a worker gets. The others may contain passwords."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """What one picture may use.

    Attributes:
        cpu_seconds: processor time. The slowest picture of 50 million pixels takes 2.5 s on a server, and about four
            times as long on a Raspberry Pi. It is not the time of day, because a busy machine is not the picture's
            fault.
        answer_seconds: wall-clock time for a worker that gets no processor time or hangs without using it.
        data_bytes: memory that a worker may write to. The largest WebP needs 830 MB.
    """

    cpu_seconds: float = 10.0
    answer_seconds: float = 60.0
    data_bytes: int = 1536 * 1024 * 1024


class PhotoWorkerPool:
    """Worker processes; one is started when all others are busy. Its methods may be called in any thread."""

    def __init__(self, limits: WorkerLimits | None = None) -> None:
        self._limits = WorkerLimits() if limits is None else limits
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._is_closed = False

    @property
    def process_ids(self) -> list[int]:
        """The ids of the processes that run."""
        with self._lock:
            return [worker.process_id for worker in (*self._idle, *self._busy)]

    def convert(self, data: bytes, box: tuple[int, int]) -> bytes:
        """Return what `convert_photo` returns; it blocks.

        Raises:
            InvalidError: as `convert_photo`, or the picture took too long or ended the worker.
            UnavailableError: no worker can be started.
            RuntimeError: the pool was closed, or the conversion failed in an unexpected way.
        """
        reason = ""
        for _ in range(_ATTEMPTS):
            worker = self._take()
            try:
                status, content = worker.convert(data, box)
            except (OSError, EOFError) as error:
                reason = self._end(worker, error)
                continue
            self._give_back(worker)
            if status == Status.INVALID:
                raise InvalidError.at("", decode_message(content))
            if status == Status.FAILED:
                raise RuntimeError(f"the conversion of a picture failed: {content.decode(errors='replace')}")
            return data if status == Status.UNCHANGED else content
        raise InvalidError.at(
            "", message("cannot be decoded (%(reason)s); save it again, or scale it down", reason=reason)
        )

    def end_idle(self) -> None:
        """End the processes that have nothing to do, to free their memory."""
        with self._lock:
            idle, self._idle = self._idle, []
        for worker in idle:
            worker.end()

    def close(self) -> None:
        """End all processes; `convert` raises RuntimeError from now on, also in other threads."""
        with self._lock:
            self._is_closed = True
            busy = list(self._busy)
        self.end_idle()
        for worker in busy:
            worker.kill()

    def _take(self) -> "_Worker":
        with self._lock:
            self._require_open()
            worker = self._idle.pop() if self._idle else None
            if worker is not None:
                self._busy.add(worker)
        if worker is None:
            worker = _Worker(self._limits)
            with self._lock:
                if not self._is_closed:
                    self._busy.add(worker)
                    return worker
            worker.end()
            self._require_open()
        return worker

    def _give_back(self, worker: "_Worker") -> None:
        with self._lock:
            self._busy.discard(worker)
            if not self._is_closed:
                self._idle.append(worker)
                return
        worker.end()

    def _end(self, worker: "_Worker", error: OSError | EOFError) -> str:
        """End a worker that did not answer; return the reason."""
        number = worker.end()
        with self._lock:
            self._busy.discard(worker)
            self._require_open()
        if number == -signal.SIGPROF:
            raise InvalidError.at("", "takes too long to decode; save it again, or scale it down") from None
        if isinstance(error, TimeoutError):
            reason = f"no answer within {self._limits.answer_seconds:.0f} s"
        elif number < 0:
            reason = f"the decoder ended with {signal.Signals(-number).name}"
        else:
            reason = f"the decoder ended with exit code {number}"
        _LOGGER.warning("a picture could not be converted: %s", reason)
        return reason

    def _require_open(self) -> None:
        if self._is_closed:
            raise RuntimeError("the pool of photo workers is closed")


class _Worker:
    """A worker process and the connection to it."""

    def __init__(self, limits: WorkerLimits) -> None:
        """Start the process. Raises UnavailableError."""
        self._connection, its_end = socket.socketpair()
        self._connection.settimeout(limits.answer_seconds)
        arguments = f"{its_end.fileno()}, {limits.cpu_seconds!r}, {limits.data_bytes}"
        # It imports what the bridge imports, however the bridge was started.
        code = (
            f"import sys; sys.path[:] = {sys.path!r}; from bridge.persons.photos.worker import main; main({arguments})"
        )
        try:
            with its_end:
                self._process = subprocess.Popen(  # noqa: S603  nothing of the command is untrusted
                    [sys.executable, "-I", "-c", code],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[its_end.fileno()],
                    # Ctrl-C in a terminal is for the bridge only.
                    process_group=0,
                    env={name: os.environ[name] for name in _INHERITED_VARIABLES if name in os.environ},
                )
        except OSError as error:
            self._connection.close()
            raise UnavailableError(f"no process can be started that converts photos: {error.strerror}") from None
        try:
            self._receive(len(READY))
        except (OSError, EOFError):
            number = self.end()
            raise UnavailableError(f"the process that converts photos ended at its start ({number})") from None

    @property
    def process_id(self) -> int:
        return self._process.pid

    def convert(self, data: bytes, box: tuple[int, int]) -> tuple[Status, bytes]:
        """Raises OSError, TimeoutError included, or EOFError if the worker does not answer."""
        self._connection.sendall(REQUEST.pack(*box, len(data)))
        self._connection.sendall(data)
        status, length = ANSWER.unpack(self._receive(ANSWER.size))
        if status not in Status.__members__.values() or length > _MAXIMUM_ANSWER_BYTES:
            raise EOFError("not an answer")
        return Status(status), self._receive(length)

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int:
        """Kill the process, wait for its end and return its exit code, negative for a signal."""
        self._process.kill()
        number = self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._connection.close()
        return number

    def _receive(self, length: int) -> bytes:
        content = receive(self._connection, length)
        if content is None:
            raise EOFError("the worker has ended")
        return content
