"""The log of the process: text lines for people, or JSON for programs. Both carry the ids that identify a command."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

IDS = ("sn", "request_id", "msgid", "person_id", "address")
"""Attributes that a record may have through `extra`. With them one command can be followed through the log."""


class TextFormatter(logging.Formatter):
    """Formats lines such as `2026-11-24 08:00:00.123 INFO    core.presses: open on T1: ok  [request_id=r1 msgid=…]`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line in local time, followed by the traceback if there is one."""
        at = datetime.fromtimestamp(record.created, UTC).astimezone()
        line = (
            f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} {record.levelname:<7} "
            f"{record.name.removeprefix('bridge.')}: {record.getMessage()}"
        )
        ids = " ".join(f"{name}={value}" for name, value in _ids(record))
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
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    if level != "debug":
        handler.addFilter(_LibraryFilter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    return handler


def announce(handler: logging.Handler, message: str) -> None:
    """Write a line at every log level, for example that the bridge is ready."""
    handler.handle(logging.LogRecord("bridge", logging.INFO, __file__, 0, message, None, None))


def _ids(record: logging.LogRecord) -> list[tuple[str, object]]:
    return [(name, value) for name in IDS if (value := getattr(record, name, None)) is not None]
