"""The parts of the bridge that the page uses."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path

from bridge.core.services import CoreServices
from bridge.model.secret import Secret
from bridge.persons.photos.sources import PhotoSource
from bridge.persons.preparation import PreparedPhoto
from bridge.persons.reading import PersonReader
from bridge.web.page.checks import FindProblems
from bridge.web.page.import_jobs import OpenImportTools
from bridge.web.sessions import SessionStore


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalAccess:
    """The settings to enter on a terminal so that it connects.

    Attributes:
        port: returns the port that the terminals' server listens on.
        path: the path of its URL.
        is_encrypted: whether it uses TLS.
        username: the common user; None if each terminal has its own.
        password: the common password, plain or as a hash.
    """

    port: Callable[[], int]
    path: str
    is_encrypted: bool
    username: str | None
    password: Secret | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageServices:
    """The services behind the page.

    Attributes:
        core: the core's services: the same commands as over MQTT.
        terminal_access: what a new terminal needs to connect.
        person_reader: reads the stored persons.
        prepare_photo: converts a picture as every incoming picture is converted. Raises InvalidError with the reason
            if it cannot be used, and UnavailableError.
        max_photo_bytes: of an incoming picture.
        timezone: of times without an offset.
        sessions: keeps the sessions of people who have signed in.
        open_import_tools: opens what an import works with.
        find_problems: runs the doctor's checks.
        spool_folder: above the folder of uploaded files, on a disk with enough space; None: that of temporary files.
    """

    core: CoreServices
    terminal_access: TerminalAccess
    person_reader: PersonReader
    prepare_photo: Callable[[PhotoSource], Awaitable[PreparedPhoto]]
    max_photo_bytes: int
    timezone: tzinfo
    sessions: SessionStore
    open_import_tools: OpenImportTools
    find_problems: FindProblems
    spool_folder: Path | None
