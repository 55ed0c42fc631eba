"""What a subject is started with, and what a running one offers."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Setting:
    """What a subject is started with.

    Attributes:
        folder: an empty folder on a real disk.
        broker_port: the broker of the measurement.
        base_topic: the first level of the subject's topics.
        terminals: the number of terminals `T1`, `T2`, … that will connect.
        known: whether the configuration of the product lists the terminals; otherwise it admits unknown ones.
    """

    folder: Path
    broker_port: int
    base_topic: str
    terminals: int
    known: bool = True


@dataclass(frozen=True, slots=True)
class Subject:
    """A running bridge.

    Attributes:
        pid: its process.
        port: where terminals connect.
        base_topic: the first level of its topics.
        web_url: the product's HTTP server.
        read_log: returns the product's log.
    """

    pid: int
    port: int
    base_topic: str
    web_url: str | None = None
    read_log: Callable[[], str] | None = None


SubjectKind = Callable[[Setting], AbstractAsyncContextManager[Subject]]
"""Runs a subject as long as the block lasts."""
