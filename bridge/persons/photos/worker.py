"""The worker process that converts pictures: decoders of untrusted files can hang, crash or take all memory.

`bridge.persons.photos.worker_pool` starts it and ends it. The process ends by itself when a picture takes too much
processor time, and when the bridge dies.
"""

import fcntl
import logging
import os
import resource
import signal
import socket
import struct
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum

from bridge.model.faults import InvalidError
from bridge.model.messages import encode_message

READY = b"\x01"
"""The first byte that a worker sends: it has started."""

REQUEST = struct.Struct("!HHI")
"""The header of a request: the largest width and height, and the length of the picture that follows."""

ANSWER = struct.Struct("!BI")
"""The header of an answer: its status, and the length of what follows."""

LIFELINE = 0
"""The file descriptor of a pipe whose other end only the bridge has; it carries no data."""

_NICENESS = 5
"""A third of the processor time that the bridge gets where both want all of it: a picture takes a millisecond or two,
and may take seconds."""


class Status(IntEnum):
    """The status of an answer.

    UNCHANGED: the picture conforms already; nothing follows. CONVERTED: the photo follows. INVALID: the fault follows,
    as `encode_message` writes it. FAILED: the traceback of an unexpected exception follows.
    """

    UNCHANGED = 0
    CONVERTED = 1
    INVALID = 2
    FAILED = 3


def main(descriptor: int, cpu_seconds: float, data_bytes: int) -> None:
    """Convert pictures until the bridge closes the connection.

    Args:
        descriptor: the file descriptor of a socket to the bridge.
        cpu_seconds: the processor time that a picture may take. After that, SIGPROF ends the process.
        data_bytes: the memory that the process may write to.
    """
    # Imported here: the bridge imports this module too, but decodes nothing itself, and Pillow delays its start.
    from bridge.persons.photos.conversion import convert_photo

    # systemd sends SIGTERM to all processes of a service. The bridge finishes its work first, then it ends this one.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    _end_with_bridge()
    # On a machine with few cores, presses do not wait for pictures.
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    # A core file would contain a face.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # These contain untrusted text.
    logging.disable()
    warnings.simplefilter("ignore")
    # A killed bridge needs no answer, and the traceback would appear in the log of the next one.
    with suppress(ConnectionError), socket.socket(fileno=descriptor) as connection:
        connection.sendall(READY)
        while (header := receive(connection, REQUEST.size)) is not None:
            width, height, length = REQUEST.unpack(header)
            data = receive(connection, length)
            if data is None:
                return
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
            status, content = _answer(convert_photo, data, (width, height))
            signal.setitimer(signal.ITIMER_PROF, 0)
            connection.sendall(ANSWER.pack(status, len(content)))
            connection.sendall(content)


def receive(connection: socket.socket, length: int) -> bytes | None:
    """Return so many bytes; None if the connection ends before. Raises OSError, TimeoutError included."""
    content = bytearray(length)
    view = memoryview(content)
    while view:
        count = connection.recv_into(view)
        if count == 0:
            return None
        view = view[count:]
    return bytes(content)


def _end_with_bridge() -> None:
    """Let the kernel end this process when the bridge has died, also while it decodes.

    SIGIO, sent when the other end of the pipe is closed, ends a process that does not handle it (fcntl(2), O_ASYNC).
    """
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(LIFELINE, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(LIFELINE, fcntl.F_SETFL, fcntl.fcntl(LIFELINE, fcntl.F_GETFL) | os.O_ASYNC)


def _answer(
    convert: Callable[[bytes, tuple[int, int]], bytes], data: bytes, box: tuple[int, int]
) -> tuple[Status, bytes]:
    try:
        photo = convert(data, box)
    except InvalidError as error:
        return Status.INVALID, encode_message(error.faults[0].message)
    except Exception:  # noqa: BLE001  the bridge raises it again
        return Status.FAILED, traceback.format_exc().encode()
    return (Status.UNCHANGED, b"") if photo is data else (Status.CONVERTED, photo)
