"""The log of the process: text lines for people, or JSON for programs. Both carry the ids that identify a command."""

import json
import logging
import sys
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TextIO

IDS = ("sn", "door", "request_id", "msgid", "person_id", "address")
"""Attributes that a record may have: `door` through `bridge/core/door_names.py`, the others through `extra`. With them
one command can be followed through the log."""

COLLAPSE = "collapse"
"""Attribute of a record below WARNING: its repetitions are counted, as those of warnings are."""

REPEAT_SECONDS = 60.0
"""Interval of the lines that count repetitions."""

_MAX_REPEATED = 1000
"""Different lines with repetitions that are counted at the same time; further ones are written each time."""


class TextFormatter(logging.Formatter):
    """Formats lines such as `2026-11-24 08:00:00.123 INFO    core.presses: open on T1: ok  [request_id=r1 msgid=…]`."""

    def __init__(self) -> None:
        super().__init__()
        # The latest second and its text: to format it takes half of the time of a line.
        self._second = (-1, "")

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line in local time, followed by the traceback if there is one."""
        message = record.getMessage()
        second, text = self._second
        if int(record.created) != second:
            second = int(record.created)
            text = f"{datetime.fromtimestamp(second, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
            self._second = second, text
        line = (
            f"{text}.{int((record.created - second) * 1000):03d} {record.levelname:<7} "
            f"{record.name.removeprefix('bridge.')}: {message}"
        )
        # A door is named as in `Terminal.label`.
        ids = " ".join(
            f"{name}={value}"
            for name, value in _ids(record)
            if (f"({value})" if name == "door" else str(value)) not in message
        )
        if ids:
            line = f"{line}  [{ids}]"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


class JsonFormatter(logging.Formatter):
    """Formats one JSON object a line: `at`, `level`, `logger`, `message`, the ids, and `exception` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line, its time in UTC."""
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **dict(_ids(record)),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        # Escaped: a lone surrogate, for example from an undecodable file name, cannot be written as UTF-8.
        return json.dumps(entry, ensure_ascii=True, default=str)


@dataclass(slots=True)
class _Repeated:
    """A line and how often it was repeated since it was last written."""

    record: logging.LogRecord
    count: int = 0


class CollapsingHandler(logging.StreamHandler[TextIO]):
    """Writes a fault that repeats itself once, and then how often it was repeated, once a minute."""

    def __init__(self, stream: TextIO, repeat_seconds: float = REPEAT_SECONDS) -> None:
        super().__init__(stream)
        self._repeat_seconds = repeat_seconds
        self._repeated: dict[tuple[str, int, str], _Repeated] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or count it if an equal one was written lately."""
        if record.levelno >= logging.WARNING or getattr(record, COLLAPSE, False):
            key = (record.name, record.levelno, record.getMessage())
            known = self._repeated.get(key)
            if known is not None:
                known.record = record
                known.count += 1
                return
            if len(self._repeated) < _MAX_REPEATED:
                self._repeated[key] = _Repeated(record)
                if self._timer is None:
                    self._start_timer()
        super().emit(record)

    def close(self) -> None:
        """Write the counts, and end."""
        with self._locked():
            if self._timer is not None:
                self._timer.cancel()
            self._write_counts()
        super().close()

    def _start_timer(self) -> None:
        self._timer = threading.Timer(self._repeat_seconds, self._tick)
        self._timer.daemon = True
        self._timer.start()

    def _tick(self) -> None:
        with self._locked():
            self._timer = None
            self._write_counts()
            if self._repeated:
                self._start_timer()

    def _write_counts(self) -> None:
        for key, one in list(self._repeated.items()):
            if not one.count:
                del self._repeated[key]
                continue
            times = "once" if one.count == 1 else f"{one.count:,} times"
            # The time of the summary, because a log that goes back in time is hard to read.
            past = {"created", "msecs", "relativeCreated"}
            summary = logging.makeLogRecord(
                {
                    **{name: value for name, value in one.record.__dict__.items() if name not in past},
                    "msg": f"{key[2]} (repeated {times} in the last {self._repeat_seconds:g} s)",
                    "args": (),
                    "exc_info": None,
                    "exc_text": None,
                }
            )
            one.count = 0
            super().emit(summary)

    def _locked(self) -> threading.RLock:
        assert self.lock is not None
        return self.lock


class _LibraryFilter(logging.Filter):
    """Drops records of other libraries below WARNING."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or record.name.split(".")[0] == "bridge"


def set_up_logging(level: str, form: Literal["text", "json"], stream: TextIO = sys.stderr) -> logging.Handler:
    """Send the log of this process to a stream. At level `debug` it includes other libraries in full.

    Args:
        level: the lowest level that is written, as `info`.
        form: text for people, or JSON for programs.
        stream: receives the lines.

    Returns:
        The handler, for `announce`.
    """
    handler = CollapsingHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    if level != "debug":
        handler.addFilter(_LibraryFilter())
    # No formatter shows these, and collecting them takes a quarter of the time of a log line. logging's documentation
    # describes them under "Optimization".
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    return handler


def announce(handler: logging.Handler, message: str) -> None:
    """Write a line at every log level, for example that the bridge is ready."""
    handler.handle(logging.LogRecord("bridge", logging.INFO, __file__, 0, message, None, None))


def _ids(record: logging.LogRecord) -> list[tuple[str, object]]:
    return [(name, value) for name in IDS if (value := getattr(record, name, None)) is not None]
