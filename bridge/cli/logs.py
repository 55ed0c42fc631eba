"""How the log is written: a calm line for people, or JSON for machines. Both carry the ids a command is followed by."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Literal, TextIO

IDS = ("sn", "request_id", "msgid", "person_id", "address")
"""What a record may carry in `extra`, so that one command can be followed through the log."""


class TextFormatter(logging.Formatter):
    """`2026-11-24 08:00:00.123 INFO    hub.presses: open on T1: ok  [request_id=r1 msgid=…]`."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record, in local time."""
        at = datetime.fromtimestamp(record.created, UTC).astimezone()
        line = (
            f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} {record.levelname:<7} "
            f"{_short(record.name)}: {record.getMessage()}"
        )
        ids = " ".join(f"{name}={value}" for name, value in _ids(record))
        if ids:
            line = f"{line}  [{ids}]"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


class JsonFormatter(logging.Formatter):
    """One object a line: `at`, `level`, `logger`, `message`, the ids, and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Write one record, in UTC."""
        entry: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **dict(_ids(record)),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        # Escaped, so that a lone surrogate, as from an undecodable file name, cannot cost the line.
        return json.dumps(entry, ensure_ascii=True, default=str)


class _QuietForeigners(logging.Filter):
    """Lets through of other libraries what is a warning or worse, unless debugging."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING or record.name.split(".")[0] == "bridge"


def set_up_logging(level: str, form: Literal["text", "json"], stream: TextIO = sys.stderr) -> logging.Handler:
    """Write the log of this process to `stream`.

    Args:
        level: the lowest level written, as `info`.
        form: for people, or for machines.
        stream: where to.

    Returns:
        The handler, for lines that must be written whatever the level (`announce`).
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    if level != "debug":
        handler.addFilter(_QuietForeigners())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    return handler


def announce(handler: logging.Handler, message: str) -> None:
    """Write a line that belongs in the log whatever its level, such as that the bridge is ready."""
    handler.handle(logging.LogRecord("bridge", logging.INFO, __file__, 0, message, None, None))


def _short(name: str) -> str:
    return name.removeprefix("bridge.")


def _ids(record: logging.LogRecord) -> list[tuple[str, object]]:
    return [(name, value) for name in IDS if (value := getattr(record, name, None)) is not None]
